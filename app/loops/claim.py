"""The step of a loop that claims due work for a pool."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.loops.worker_pool import WorkerPool

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClaimLoop(Generic[T]):
    """Keeps a pool busy, claiming only what can start right away.

    With `gather_seconds` it waits that long for more workers to become free while others are busy.
    """

    claim: Callable[[int], Awaitable[Sequence[T]]]
    work: Callable[[T], Coroutine[Any, Any, None]]
    pool: WorkerPool
    gather_seconds: float = 0.0

    async def run_once(self) -> int:
        """Claim and start due work; returns the number of items."""
        if self.pool.free <= 0:
            return 0
        if self.gather_seconds and self.pool.busy:
            await asyncio.sleep(self.gather_seconds)
        claimed = await self.claim(self.pool.free)
        for item in claimed:
            self.pool.start(self.work(item))
        return len(claimed)
