"""Upstream callbacks: their signed URLs and records."""

from collections.abc import Sequence

import msgspec

from app.domain.signing import Signer

# 32 hex digits, a dash, and a 160-bit MAC in URL-safe base64.
_TOKEN_LENGTH = 32 + 1 + 27
_MAC_BYTES = 20
CALLBACK_PATH = "/callbacks/nanobanana"
"""The parent path of all callback URLs."""
_PURPOSE = b"nanobanana-callback:"


class ReceivedCallback(msgspec.Struct, frozen=True):
    """A request to a task's callback URL, and our response."""

    task_id: str
    received_at: int
    status: int
    answer: str
    body: bytes


class CallbackTokens:
    """Signs and verifies the last segment of callback URLs.

    The first of `secrets` signs and all verify, which allows rotation.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._signer = Signer([secret.encode() for secret in secrets], size=_MAC_BYTES)

    def sign(self, task_id: str) -> str:
        """Return a task's token."""
        bare = task_id.removeprefix("task_")
        return f"{bare}-{self._signer.sign(_PURPOSE + bare.encode())}"

    def verify(self, token: str) -> str | None:
        """Return the task id in a token; None if invalid."""
        if len(token) != _TOKEN_LENGTH or not token.isascii():
            return None
        # The id needs no check, as only task ids are signed.
        bare, _, mac = token.partition("-")
        return f"task_{bare}" if self._signer.verify(_PURPOSE + bare.encode(), mac) else None
