"""Callbacks of the upstream: their signed URLs and the record of what arrived."""

from collections.abc import Sequence

import msgspec

from app.domain.signing import Signer

# 32 hex digits, a dash, and the MAC in URL-safe base64.
_TOKEN_LENGTH = 32 + 1 + 27
_MAC_BYTES = 20
CALLBACK_PATH = "/callbacks/nanobanana"
"""The path below which each task has its own callback URL."""
_PURPOSE = b"nanobanana-callback:"


class ReceivedCallback(msgspec.Struct, frozen=True):
    """One request to a task's callback URL, with the status and word of our response."""

    task_id: str
    received_at: int
    status: int
    answer: str
    body: bytes


class CallbackTokens:
    """Signs and verifies the last segment of callback URLs: task id and 160-bit MAC.

    The first of `secrets` signs, all verify, so that a secret can be rotated.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._signer = Signer([secret.encode() for secret in secrets], size=_MAC_BYTES)

    def sign(self, task_id: str) -> str:
        """Return the token of a task."""
        bare = task_id.removeprefix("task_")
        return f"{bare}-{self._signer.sign(_PURPOSE + bare.encode())}"

    def verify(self, token: str) -> str | None:
        """Return the id of the task that a token names; None if it is not ours."""
        if len(token) != _TOKEN_LENGTH or not token.isascii():
            return None
        # The id needs no check: only ids of tasks are signed.
        bare, _, mac = token.partition("-")
        return f"task_{bare}" if self._signer.verify(_PURPOSE + bare.encode(), mac) else None
