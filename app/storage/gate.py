"""Storage gates: while storage fails, retry with growing pauses."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import structlog

_FIRST_PAUSE_SECONDS = 1.0
_MAX_PAUSE_SECONDS = 60.0
_log = structlog.get_logger(__name__)


@dataclass(eq=False)
class StorageGate:
    """Lets one caller at a time retry failed storage.

    Callers report the outcome: after a success all continue; after a failure all wait longer. `kind` is for the log.
    """

    kind: str
    first_pause_seconds: float = _FIRST_PAUSE_SECONDS
    max_pause_seconds: float = _MAX_PAUSE_SECONDS
    _opened: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _turns: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _pause: float = field(default=0.0, init=False)
    _next_at: float = field(default=-math.inf, init=False)
    """When the next attempt is due (monotonic clock)."""

    def __post_init__(self) -> None:
        self._opened.set()

    @property
    def is_open(self) -> bool:
        """Whether the last attempt succeeded."""
        return self._opened.is_set()

    @property
    def is_awaited(self) -> bool:
        """Whether a caller is waiting to try storage again."""
        return self._turns.locked()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Start at once if open, otherwise alone, after the pause."""
        if self.is_open:
            yield
            return
        async with self._turns:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(self._next_at - time.monotonic(), 0)):
                    await self._opened.wait()
            if not self.is_open:
                yield
                return
        yield

    def note_success(self) -> None:
        """Open the gate."""
        if not self.is_open:
            self._opened.set()
            _log.warning("storage_resumed", kind=self.kind)

    def note_failure(self, reason: str) -> None:
        """Close the gate, or lengthen the pause."""
        now = time.monotonic()
        if not self.is_open and now < self._next_at:
            return  # this attempt began before the gate closed
        # Storage that works only briefly, such as a nearly full disk, doesn't reset the pause.
        is_new = self.is_open and now >= self._next_at + self.max_pause_seconds
        self._pause = self.first_pause_seconds if is_new else min(2 * self._pause, self.max_pause_seconds)
        self._next_at = now + self._pause
        if self.is_open:
            self._opened.clear()
            _log.warning("storage_paused", kind=self.kind, reason=reason)
