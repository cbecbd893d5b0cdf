"""Callbacks of the upstream: the address it is given, and what is kept of what arrives there."""

from collections.abc import Sequence

import msgspec

from app.domain.signing import Signer

# 32 hex digits, a dash, and the MAC in URL-safe base64.
_TOKEN_LENGTH = 32 + 1 + 27
_MAC_BYTES = 20
CALLBACK_PATH = "/callbacks/nanobanana"
"""Below which each task has a URL of its own, that the upstream calls back."""
_PURPOSE = b"nanobanana-callback:"


class ReceivedCallback(msgspec.Struct, frozen=True):
    """One request that arrived at a task's callback address, with the HTTP status and word it was answered with."""

    task_id: str
    received_at: int
    status: int
    answer: str
    body: bytes


class CallbackTokens:
    """Makes and checks the last segment of callback URLs: the task's id and a code of 160 bits.

    The first of `secrets` signs, all verify, so that a secret can be rotated.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._signer = Signer([secret.encode() for secret in secrets], size=_MAC_BYTES)

    def sign(self, task_id: str) -> str:
        """Make the token that names this task."""
        bare = task_id.removeprefix("task_")
        return f"{bare}-{self._signer.sign(_PURPOSE + bare.encode())}"

    def verify(self, token: str) -> str | None:
        """Return the id of the task that a token names; None for a token that is not one of ours."""
        if len(token) != _TOKEN_LENGTH or not token.isascii():
            return None
        # What comes before the code needs no check of its own: only ids of tasks are signed.
        bare, _, mac = token.partition("-")
        return f"task_{bare}" if self._signer.verify(_PURPOSE + bare.encode(), mac) else None
