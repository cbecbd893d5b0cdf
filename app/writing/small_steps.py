"""Small steps: a long change in many short transactions."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from app.writing.unit_of_work import UnitOfWork
from app.writing.writer import Writer

T = TypeVar("T")
_FIRST_SIZE = 10
_MAX_SIZE = 500
_MAX_GROWTH = 2


class SmallSteps:
    """Applies a change to many items in short transactions.

    All other changes go first. Each transaction takes about `target_seconds` and is followed by a pause of the same
    length, which leaves at least half of the write time to others. A run takes about `max_seconds`, so that its loop is
    not mistaken for stuck.
    """

    def __init__(
        self,
        writer: Writer,
        *,
        target_seconds: float = 0.01,
        max_seconds: float = 10.0,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._target_seconds = target_seconds
        self._max_seconds = max_seconds
        self._timer = timer
        self._size = _FIRST_SIZE

    async def run(self, items: Sequence[T], change: Callable[[UnitOfWork, Sequence[T]], int]) -> tuple[int, int]:
        """Apply `change` to the items, in order, for `max_seconds`.

        Returns how many items were processed, at least one, and the sum of the results.
        """
        until = self._timer() + self._max_seconds
        total = reached = 0
        while reached < len(items) and (not reached or self._timer() < until):
            part = items[reached : reached + self._size]
            result, seconds = await self._step(part, change)
            total, reached = total + result, reached + len(part)
            self._adapt(len(part), seconds)
            await asyncio.sleep(seconds)
        return reached, total

    async def _step(self, part: Sequence[T], change: Callable[[UnitOfWork, Sequence[T]], int]) -> tuple[int, float]:
        began = 0.0

        def work(unit: UnitOfWork) -> int:
            nonlocal began
            began = self._timer()  # not when it was queued
            return change(unit, part)

        result = await self._writer.run_in_background(work)
        return result, self._timer() - began

    def _adapt(self, count: int, seconds: float) -> None:
        wanted = round(count * self._target_seconds / max(seconds, 1e-6))
        self._size = max(1, min(wanted, _MAX_GROWTH * self._size, _MAX_SIZE))
