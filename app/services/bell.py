"""Bells: how a commit wakes a loop in the same process. Loops also look by themselves; a bell only saves time."""

import asyncio


class Bell:
    """Something to wait for that others ring; rings before a wait are not lost, several count as one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake whoever waits, or the next one who does."""
        self._event.set()

    def ring_after(self, seconds: float) -> None:
        """Ring once that much later."""
        asyncio.get_running_loop().call_later(seconds, self.ring)

    async def wait(self, seconds: float) -> None:
        """Wait for a ring, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass
        else:
            self._event.clear()
