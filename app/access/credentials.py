"""What lets a caller in, and what becomes of those who follow something when it no longer does."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from app.clock import Clock
from app.domain.caller import OnEnd
from app.domain.key import ApiKey
from app.errors import Unauthorized


class KeyCredential:
    """An API key, until it is revoked. There is one for each key in use in this process, see `Keyring`."""

    def __init__(self, key: ApiKey, digest: str) -> None:
        self.key = key
        self.digest = digest
        self.read_at = 0.0
        """When the database last said so; like `asked_at` a monotonic time in seconds."""
        self.asked_at = 0.0
        self.used_at = 0
        """When the key itself was last used here (milliseconds)."""
        self.noted_at = key.last_used_at or 0
        """Of what is written in the database, or was written by us."""
        self.is_over = False
        self._followers: set[OnEnd] = set()

    @property
    def is_followed(self) -> bool:
        """Whether a request is open that has to end with the key."""
        return bool(self._followers)

    def end(self) -> None:
        """Let nobody in any more, and tell those whose requests are open."""
        if self.is_over:
            return
        self.is_over = True
        for on_end in tuple(self._followers):
            on_end(_revoked())

    @contextmanager
    def until_over(self, on_end: OnEnd) -> Iterator[None]:
        """Have `on_end` told when the key is revoked."""
        self._followers.add(on_end)
        try:
            if self.is_over:
                on_end(_revoked())
            yield
        finally:
            self._followers.discard(on_end)


class TokenCredential:
    """A browser token, until it expires or the key that made it, if any did, is revoked."""

    def __init__(self, by_key: KeyCredential | None, expires_at: int, clock: Clock) -> None:
        self._by_key = by_key
        self._expires_at = expires_at
        self._clock = clock

    @contextmanager
    def until_over(self, on_end: OnEnd) -> Iterator[None]:
        """Have `on_end` told when the token is good for nothing any more."""
        seconds = max(0.0, (self._expires_at - self._clock.now()) / 1000)
        expired = Unauthorized("The browser token has expired; get a new one.")
        timer = asyncio.get_running_loop().call_later(seconds, on_end, expired)
        try:
            with nullcontext() if self._by_key is None else self._by_key.until_over(on_end):
                yield
        finally:
            timer.cancel()


def _revoked() -> Unauthorized:
    return Unauthorized("The API key was revoked.")
