"""Credentials that can end while a request is open."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from app.clock import Clock
from app.domain.caller import OnEnd
from app.domain.key import ApiKey
from app.errors import Unauthorized


class KeyCredential:
    """An API key in use, shared by its requests."""

    def __init__(self, key: ApiKey, digest: str) -> None:
        self.key = key
        self.digest = digest
        self.read_at = 0.0
        """Times of the last read and the last request, in monotonic seconds."""
        self.requested_at = 0.0
        self.used_at = 0
        """Times of the last use in this process and of the last recorded use, in milliseconds."""
        self.recorded_at = key.last_used_at or 0
        self.is_over = False
        self._on_end: set[OnEnd] = set()

    @property
    def is_followed(self) -> bool:
        """Whether open requests depend on the key."""
        return bool(self._on_end)

    def end(self) -> None:
        """End the credential and all requests that depend on it."""
        if not self.is_over:
            self.is_over = True
            for on_end in tuple(self._on_end):
                on_end(_revoked())

    @contextmanager
    def until_over(self, on_end: OnEnd) -> Iterator[None]:
        """Call `on_end` when the key is, or was, revoked."""
        self._on_end.add(on_end)
        try:
            if self.is_over:
                on_end(_revoked())
            yield
        finally:
            self._on_end.discard(on_end)


@dataclass(frozen=True, slots=True)
class TokenCredential:
    """A browser token, until expiry or revocation of its key."""

    by_key: KeyCredential | None
    expires_at: int
    clock: Clock

    @contextmanager
    def until_over(self, on_end: OnEnd) -> Iterator[None]:
        """Call `on_end` when the token ends."""
        seconds = max(0.0, (self.expires_at - self.clock.now()) / 1000)
        expired = Unauthorized("The browser token has expired; get a new one.")
        timer = asyncio.get_running_loop().call_later(seconds, on_end, expired)
        try:
            with nullcontext() if self.by_key is None else self.by_key.until_over(on_end):
                yield
        finally:
            timer.cancel()


def _revoked() -> Unauthorized:
    return Unauthorized("The API key was revoked.")
