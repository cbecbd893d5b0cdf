"""Reading something again every so often, by one request for all."""

import asyncio
import math
from collections.abc import Awaitable, Callable

_FRESH_SECONDS = 0.5
_STALE_SECONDS = 0.9


class Refresh:
    """Calls `read` when what it read is not fresh any more; `now` tells seconds.

    One request waits for it; the others go by what was so a moment ago, as long as it is no more than that.
    """

    def __init__(self, read: Callable[[], Awaitable[None]], now: Callable[[], float]) -> None:
        self._read = read
        self._now = now
        self._read_at = -math.inf
        self._reading: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """See that what was read is less than a second old; raises what `read` raises."""
        age = self._now() - self._read_at
        if 0 <= age < _FRESH_SECONDS:
            return
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_again(), name="refresh")
            self._reading.add_done_callback(self._end_reading)
        elif 0 <= age < _STALE_SECONDS:
            return
        # Shielded: whoever goes away must not take the answer from others.
        await asyncio.shield(self._reading)

    async def _read_again(self) -> None:
        began = self._now()
        await self._read()
        self._read_at = began

    def _end_reading(self, reading: asyncio.Task[None]) -> None:
        self._reading = None
        if not reading.cancelled():
            reading.exception()  # fetched, lest asyncio complain where everybody has gone away
