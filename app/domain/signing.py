"""HMAC-SHA256 signatures with rotatable keys."""

import base64
import hmac
from collections.abc import Sequence


class Signer:
    """Signs with the first key and verifies with all.

    Codes are `size` bytes in URL-safe base64.
    """

    def __init__(self, keys: Sequence[bytes], *, size: int = 32) -> None:
        self._keys = tuple(keys)
        self._size = size

    def sign(self, message: bytes) -> str:
        """Return a message's code."""
        return self._code(self._keys[0], message)

    def verify(self, message: bytes, code: str) -> bool:
        """Whether any key created this code, which must be ASCII."""
        # No early exit: the time must not reveal which key matches.
        return any([hmac.compare_digest(self._code(key, message), code) for key in self._keys])  # noqa: C419

    def _code(self, key: bytes, message: bytes) -> str:
        return encode(hmac.digest(key, message, "sha256")[: self._size])


def encode(content: bytes) -> str:
    """Return URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
