"""Batched reads: keys requested during a read share the next."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

from app.errors import ServiceUnavailable

K = TypeVar("K")
V = TypeVar("V")
_MAX_BATCH = 256
_Callers = dict[K, list[asyncio.Future[V | None]]]


class BatchLoader(Generic[K, V]):
    """Loads values by key, one `read` at a time.

    Every value is read after it was requested. If a batch fails, its keys are read one by one, so that only the faulty
    keys fail. If the database is unavailable, all waiting keys fail.
    """

    def __init__(self, name: str, read: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._name = name
        self._read = read
        self._waiting: _Callers[K, V] = {}
        self._worker: asyncio.Task[None] | None = None

    async def load(self, key: K) -> V | None:
        """Return the value for `key`; None if `read` omits it."""
        # One future per caller, so that a cancelled caller doesn't cancel the others.
        future: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(future)
        if self._worker is None:
            self._worker = asyncio.create_task(self._work(), name=self._name)
        return await future

    async def _work(self) -> None:
        while self._waiting:
            keys = list(self._waiting)[:_MAX_BATCH]
            await self._load({key: self._waiting.pop(key) for key in keys})
        self._worker = None

    async def _load(self, batch: _Callers[K, V]) -> None:
        error = await self._try(batch)
        if error is None:
            return
        if isinstance(error, ServiceUnavailable):
            # Reading the rest would take as long and fail as well.
            waiting, self._waiting = self._waiting, {}
            _fail(batch, error)
            _fail(waiting, error)
            return
        if len(batch) == 1:
            _fail(batch, error)
            return
        while batch:
            key = next(iter(batch))
            one = {key: batch.pop(key)}
            if error := await self._try(one):
                _fail(one, error)
                if isinstance(error, ServiceUnavailable):
                    _fail(batch, error)
                    return

    async def _try(self, batch: _Callers[K, V]) -> Exception | None:
        """Read a batch; returns the error instead of raising it."""
        try:
            found = await self._read(list(batch))
        except Exception as error:  # noqa: BLE001 -- passed on to the callers
            return error
        for key, callers in batch.items():
            for caller in callers:
                if not caller.done():
                    caller.set_result(found.get(key))
        return None


def _fail(batch: _Callers[K, V], error: Exception) -> None:
    for callers in batch.values():
        for caller in callers:
            if not caller.done():
                caller.set_exception(error)
