"""When what waits in the database is taken in hand: on a wake-up, as places get free, and at least every second."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Generic, TypeVar

from app.loops.crew import Crew

T = TypeVar("T")


class ClaimLoop(Generic[T]):
    """Keeps up to `crew` pieces of work under way: tasks to send or ask about, webhooks to post, images to fetch.

    Claims only what it can begin right away. With `gather_seconds` it waits so long for more places to get free while
    others are busy.
    """

    def __init__(
        self,
        claim: Callable[[int], Awaitable[Sequence[T]]],
        work: Callable[[T], Coroutine[Any, Any, None]],
        crew: Crew,
        *,
        gather_seconds: float = 0.0,
    ) -> None:
        self._claim = claim
        self._work = work
        self._crew = crew
        self._gather_seconds = gather_seconds

    async def run_once(self) -> int:
        """Claim and start what is due now; returns how many."""
        if self._crew.free <= 0:
            return 0
        if self._gather_seconds and self._crew.busy:
            await asyncio.sleep(self._gather_seconds)
        claimed = await self._claim(self._crew.free)
        for one in claimed:
            self._crew.start(self._work(one))
        return len(claimed)
