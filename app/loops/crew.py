"""A bounded crew of background tasks: what a loop has under way at the same time."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from app.writing.wake_up import WakeUp

_log = structlog.get_logger(__name__)


class Crew:
    """Runs at most `size` coroutines at once; `wake_up` wakes whenever one ends."""

    def __init__(self, size: int, wake_up: WakeUp) -> None:
        self._size = size
        self._wake_up = wake_up
        self._working: set[asyncio.Task[Any]] = set()

    @property
    def free(self) -> int:
        """How many more may be started now."""
        return self._size - len(self._working)

    @property
    def busy(self) -> int:
        """How many are under way."""
        return len(self._working)

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Start one; the caller has looked at `free`."""
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._ended)

    async def finish(self, seconds: float) -> int:
        """Wait for all to end, at most so long, then cancel the rest; returns how many were cancelled."""
        if not self._working:
            return 0
        _, late = await asyncio.wait(self._working, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._working.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background_work_failed", exc_info=error)
        self._wake_up.wake()
