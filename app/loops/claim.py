"""Claims due work and runs it in background tasks."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import structlog

from app.writing.wake_up import WakeUp

T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass(eq=False)
class ClaimLoop(Generic[T]):
    """Works on up to `size` items at once.

    Claims only as many as it can start at once, and wakes `wake_up` when an item ends. While busy, it first waits
    `gather_seconds` for other items to end, so that more are claimed together.
    """

    claim: Callable[[int], Awaitable[Sequence[T]]]
    work: Callable[[T], Coroutine[Any, Any, None]]
    size: int
    wake_up: WakeUp
    gather_seconds: float = 0.0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    @property
    def busy(self) -> int:
        """Number of items in progress."""
        return len(self._tasks)

    async def run_once(self) -> int:
        """Claim and start due work; returns the number of items."""
        if self.busy >= self.size:
            return 0
        if self.gather_seconds and self.busy:
            await asyncio.sleep(self.gather_seconds)
        claimed = await self.claim(self.size - self.busy)
        for item in claimed:
            task = asyncio.create_task(self.work(item))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        return len(claimed)

    async def finish(self, seconds: float) -> int:
        """Wait, then cancel unfinished items; returns how many."""
        if not self._tasks:
            return 0
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        return len(late)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background_work_failed", exc_info=error)
        self.wake_up.wake()
