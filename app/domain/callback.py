"""Callbacks of the upstream: the address it is given, and what is kept of what arrives there."""

import base64
import hashlib
import hmac
from collections.abc import Sequence

import msgspec

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
    """Makes and checks the last segment of callback URLs: the task's id and a MAC of it (HMAC-SHA256, 160 bits).

    The first of `secrets` signs, all verify, so that a secret can be rotated.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        # Keyed once: taking the key in costs more than the rest.
        self._macs = [hmac.new(secret.encode(), _PURPOSE, hashlib.sha256) for secret in secrets]

    def sign(self, task_id: str) -> str:
        """Make the token that names this task."""
        bare = task_id.removeprefix("task_")
        return f"{bare}-{_mac(self._macs[0], bare)}"

    def verify(self, token: str) -> str | None:
        """Return the id of the task a token names; None for a token that is not one of ours."""
        if len(token) != _TOKEN_LENGTH or not token.isascii():
            return None
        # What stands before the MAC needs no look: we sign nothing but ids of tasks.
        bare, _, mac = token.partition("-")
        # No early exit: how long this takes tells nothing about which key, if any, fits.
        fits = [hmac.compare_digest(_mac(keyed, bare), mac) for keyed in self._macs]
        return f"task_{bare}" if any(fits) else None


def _mac(keyed: hmac.HMAC, bare: str) -> str:
    mac = keyed.copy()
    mac.update(bare.encode())
    return base64.urlsafe_b64encode(mac.digest()[:_MAC_BYTES]).rstrip(b"=").decode()
