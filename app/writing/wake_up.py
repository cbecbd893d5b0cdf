"""Wake-ups: a commit wakes loops in this process. Loops also check on their own; a wake-up only saves time."""

import asyncio


class WakeUp:
    """A signal to wait for. A signal before the wait is not lost; several count as one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._timer: asyncio.Handle | None = None
        self._due = 0.0

    def wake(self) -> None:
        """Wake the waiter, or the next one."""
        self._event.set()

    def wake_after(self, seconds: float) -> None:
        """Wake after a delay, unless an earlier wake-up is scheduled: its waiter sees what is still due later."""
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
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            pass
        else:
            self._event.clear()
