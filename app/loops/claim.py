"""Claims due work on a wake-up, as workers become free, and at least every second."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from app.loops.worker_pool import WorkerPool

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClaimLoop(Generic[T]):
    """Keeps a pool busy: with tasks to send or poll about, webhooks to post, or images to fetch.

    Claims only what it can start right away. With `gather_seconds` it waits that long for more workers to become free
    while others are busy.
    """

    claim: Callable[[int], Awaitable[Sequence[T]]]
    work: Callable[[T], Coroutine[Any, Any, None]]
    pool: WorkerPool
    gather_seconds: float = 0.0

    async def run_once(self) -> int:
        """Claim and start what is due now; returns how many."""
        if self.pool.free <= 0:
            return 0
        if self.gather_seconds and self.pool.busy:
            await asyncio.sleep(self.gather_seconds)
        claimed = await self.claim(self.pool.free)
        for item in claimed:
            self.pool.start(self.work(item))
        return len(claimed)
