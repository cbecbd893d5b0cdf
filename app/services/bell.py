"""Bells: how a commit wakes a loop in the same process. Loops also look by themselves; a bell only saves time."""

import asyncio


class Bell:
    """Something to wait for that others ring; rings before a wait are not lost, several count as one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._timer: asyncio.Handle | None = None
        self._due = 0.0

    def ring(self) -> None:
        """Wake whoever waits, or the next one who does."""
        self._event.set()

    def ring_after(self, seconds: float) -> None:
        """Ring that much later, unless an earlier ring is planned: whoever wakes then sees what is still to come."""
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._timer, self._due = loop.call_at(due, self._ring_as_planned), due

    def _ring_as_planned(self) -> None:
        self._timer = None
        self.ring()

    async def wait(self, seconds: float) -> None:
        """Wait for a ring, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass
        else:
            self._event.clear()
