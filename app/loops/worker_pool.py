"""A bounded pool of background tasks."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from app.writing.wake_up import WakeUp

_log = structlog.get_logger(__name__)


class WorkerPool:
    """Runs at most `size` coroutines at once; wakes `wake_up` when one ends."""

    def __init__(self, size: int, wake_up: WakeUp) -> None:
        self._size = size
        self._wake_up = wake_up
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def free(self) -> int:
        """How many more can be started."""
        return self._size - len(self._tasks)

    @property
    def busy(self) -> int:
        """How many are running."""
        return len(self._tasks)

    def start(self, work: Coroutine[Any, Any, Any]) -> None:
        """Start one; the caller has checked `free`."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def finish(self, seconds: float) -> int:
        """Wait up to `seconds` for all to end, then cancel the rest; returns how many were cancelled."""
        if not self._tasks:
            return 0
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background_work_failed", exc_info=error)
        self._wake_up.wake()
