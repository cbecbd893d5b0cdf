"""Short-lived credentials for web pages, each limited to one subject."""

import base64
import hmac
import re
from collections.abc import Sequence

import msgspec
import uuid_utils

from app.domain.signing import Signer, encode

TOKEN_PREFIX = "nbt_"  # noqa: S105 -- distinguishes tokens from keys, and lets secret scanners find them
MAX_SUBJECT_CHARACTERS = 255
# Enough for the longest subject in its longest encoding.
_TOKEN = re.compile(rf"{TOKEN_PREFIX}([A-Za-z0-9_-]{{1,4096}})\.([A-Za-z0-9_-]{{43}})")
_PURPOSE = b"nanobanana-browser-token"


class BrowserToken(msgspec.Struct, frozen=True, array_like=True):
    """The content of a token.

    `expires_at` is in milliseconds; `key_id` names the API key that created it, None without keys.
    """

    id: str
    project: str
    subject: str
    key_id: str | None
    max_tasks: int
    expires_at: int


class BrowserTokens:
    """Signs and verifies tokens.

    The first of `secrets` signs and all verify, which allows rotation. The signing keys are derived, so that nothing
    else signed with these secrets is a valid token.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._signer = Signer([hmac.digest(secret.encode(), _PURPOSE, "sha256") for secret in secrets])
        self._decode = msgspec.json.Decoder(BrowserToken).decode

    def sign(self, token: BrowserToken) -> str:
        """Return the token's text."""
        content = encode(msgspec.json.encode(token))
        return f"{TOKEN_PREFIX}{content}.{self._signer.sign(content.encode())}"

    def verify(self, text: str) -> BrowserToken | None:
        """Read a token, even if expired; None if not ours."""
        match = _TOKEN.fullmatch(text)
        if match is None or not self._signer.verify(match[1].encode(), match[2]):
            return None
        try:
            return self._decode(base64.urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)))
        except (ValueError, msgspec.DecodeError):
            # Signed by another version of this service, with other fields.
            return None


def new_token_id() -> str:
    """Make a new token id."""
    return f"tok_{uuid_utils.uuid7().hex}"


def is_subject(text: str) -> bool:
    """Whether a text is non-blank, printable and not too long."""
    return len(text) <= MAX_SUBJECT_CHARACTERS and text.isprintable() and bool(text.strip())
