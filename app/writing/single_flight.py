"""Single flight: concurrent callers with a key share one call."""

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from app.errors import ServiceUnavailable

K = TypeVar("K")
T = TypeVar("T")
_FRESH_SECONDS = 0.5
_STALE_SECONDS = 0.9


class SingleFlight(Generic[K, T]):
    """Runs at most one call per key at a time.

    Every caller gets the call's result or exception. A canceled caller leaves the call running for the others.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: dict[K, asyncio.Task[T]] = {}

    def __contains__(self, key: K) -> bool:
        """Whether a call for this key is running."""
        return key in self._calls

    def __len__(self) -> int:
        """Number of running calls."""
        return len(self._calls)

    async def run(self, key: K, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return the call's result for `key`, starting it if needed.

        Raises `ServiceUnavailable` if the call is canceled by `cancel`.
        """
        task = self.join(key, call)
        # Unlike awaiting the task or a shield around it, this neither cancels it nor logs its exception twice.
        await asyncio.wait((task,))
        if task.cancelled():
            raise ServiceUnavailable("The service is stopping.")
        return task.result()

    def join(self, key: K, call: Callable[[], Coroutine[Any, Any, T]]) -> "asyncio.Task[T]":
        """Return the task for `key`, starting one if needed.

        Wait for it with `asyncio.wait` only: awaiting it would let a canceled caller cancel it.
        """
        task = self._calls.get(key)
        if task is None:
            task = self._calls[key] = asyncio.create_task(call(), name=self._name)
            task.add_done_callback(lambda done: self._forget(key, done))
        return task

    def cancel(self) -> None:
        """Cancel all running calls."""
        for task in self._calls.values():
            task.cancel()

    async def aclose(self) -> None:
        """Cancel all running calls and wait for them to end."""
        self.cancel()
        await asyncio.gather(*self._calls.values(), return_exceptions=True)

    def _forget(self, key: K, task: "asyncio.Task[T]") -> None:
        del self._calls[key]
        if not task.cancelled():
            # Mark as retrieved, so asyncio doesn't warn if all callers have left.
            task.exception()


class Refresh:
    """Keeps data that `read` loads less than a second old.

    Once the data is no longer fresh, one caller waits for the next read. Others use the current data until it is stale.
    `now` returns seconds.
    """

    def __init__(self, read: Callable[[], Coroutine[Any, Any, None]], now: Callable[[], float]) -> None:
        self._read = read
        self._now = now
        self._read_at = -math.inf
        self._reads: SingleFlight[None, None] = SingleFlight("refresh")

    async def refresh(self) -> None:
        """Read again if needed."""
        # A negative age means that the clock was set back.
        age = self._now() - self._read_at
        if 0 <= age < (_STALE_SECONDS if self._reads else _FRESH_SECONDS):
            return
        await self._reads.run(None, self._read_again)

    async def _read_again(self) -> None:
        began = self._now()
        await self._read()
        self._read_at = began
