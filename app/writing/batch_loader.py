"""Batched reads: keys requested while a read is running share the next one."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

from app.errors import ServiceUnavailable

K = TypeVar("K")
V = TypeVar("V")
_MAX_BATCH = 256


class BatchLoader(Generic[K, V]):
    """Loads values by key with one `read` at a time; `name` names its asyncio task.

    Every value is read after it was requested. If a batch fails, its keys are read one by one, so that only the keys at
    fault fail. If the database is unavailable, all waiting keys fail.
    """

    def __init__(self, name: str, read: Callable[[Sequence[K]], Awaitable[Mapping[K, V]]]) -> None:
        self._name = name
        self._read = read
        self._waiting: dict[K, asyncio.Future[V | None]] = {}
        self._worker: asyncio.Task[None] | None = None

    async def load(self, key: K) -> V | None:
        """Return the value for `key`; None if `read` leaves it out. Raises whatever `read` raises."""
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
            if self._worker is None:
                self._worker = asyncio.create_task(self._work(), name=self._name)
        # Awaiting the future itself would let a cancelled caller cancel it for the others.
        await asyncio.wait((future,))
        return future.result()

    async def _work(self) -> None:
        while self._waiting:
            keys = list(self._waiting)[:_MAX_BATCH]
            await self._load({key: self._waiting.pop(key) for key in keys})
        self._worker = None

    async def _load(self, batch: "dict[K, asyncio.Future[V | None]]") -> None:
        try:
            found = await self._read(list(batch))
        except Exception as error:  # noqa: BLE001 -- passed on to the callers
            if isinstance(error, ServiceUnavailable):
                # Reading the rest would take as long and fail as well.
                waiting, self._waiting = self._waiting, {}
                _fail(batch, error)
                _fail(waiting, error)
            elif len(batch) > 1:
                await self._load_one_by_one(batch)
            else:
                _fail(batch, error)
        else:
            for key, future in batch.items():
                future.set_result(found.get(key))

    async def _load_one_by_one(self, batch: "dict[K, asyncio.Future[V | None]]") -> None:
        for key in list(batch):
            future = batch.pop(key)
            await self._load({key: future})
            if isinstance(error := future.exception(), ServiceUnavailable):
                _fail(batch, error)
                return


def _fail(batch: "dict[K, asyncio.Future[V | None]]", error: Exception) -> None:
    for future in batch.values():
        future.set_exception(error)
        # Mark as retrieved, so asyncio doesn't warn if all callers have left.
        future.exception()
