"""Wake-ups: signals to loops that otherwise check periodically."""

import asyncio
from contextlib import suppress


class WakeUp:
    """A signal to wait for.

    A signal sent before the wait is not lost. Several signals count as one.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._timer: asyncio.Handle | None = None
        self._due = 0.0

    def wake(self) -> None:
        """Wake the waiter, or the next one."""
        self._event.set()

    def wake_after(self, seconds: float) -> None:
        """Schedule a wake-up, unless an earlier one is scheduled.

        The waiter that wakes earlier must schedule the next one.
        """
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._timer, self._due = loop.call_at(due, self._wake_as_scheduled), due

    def _wake_as_scheduled(self) -> None:
        self._timer = None
        self.wake()

    async def wait(self, seconds: float) -> None:
        """Wait for a wake-up, at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._event.wait()
                self._event.clear()
