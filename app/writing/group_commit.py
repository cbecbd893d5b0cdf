"""Group commit: work that arrives meanwhile shares the next transaction."""

import asyncio
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import structlog

from app.errors import ServiceUnavailable

W = TypeVar("W")
_MAX_BATCH = 256
# While the database is unreachable, work waits in memory; beyond this limit it is refused.
_MAX_WAITING = 5_000
# Under constant load, background work gets one transaction after this many others.
_MAX_BATCHES_AHEAD = 20
_log = structlog.get_logger(__name__)


class GroupCommit(ABC, Generic[W]):
    """Commits the work of many callers in few transactions."""

    def __init__(self) -> None:
        self._waiting: list[tuple[W, asyncio.Future[Any]]] = []
        self._background: list[tuple[W, asyncio.Future[Any]]] = []
        self._batches_ahead = 0
        """How many batches were committed while background work waited."""
        self._one_by_one = 0
        """How many of the first waiting works are committed one by one, because they failed as a batch."""
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._closing = False
        self.has_failed = False
        """Whether the database was unreachable for a commit. Reset once it works again."""

    @abstractmethod
    async def commit(self, items: list[W]) -> list[Any]:
        """Commit a batch in one transaction and return its outcomes.

        An outcome is a result, or an exception for the caller. If this raises `ServiceUnavailable`, all waiting work
        fails. If it raises anything else, works are committed one by one, so that only the faulty one fails. Work may
        therefore run more than once.
        """

    def start(self) -> None:
        """Start committing."""
        self._worker = asyncio.create_task(self._run(), name="group-commit")

    async def aclose(self) -> None:
        """Commit all waiting work, then stop."""
        self._closing = True
        self._wake.set()
        if self._worker is not None:
            await self._worker

    @property
    def has_died(self) -> bool:
        """Whether the worker ended unexpectedly."""
        return self._worker is not None and self._worker.done() and not self._closing

    def enqueue(self, work: W, *, in_background: bool = False) -> asyncio.Future[Any]:
        """Queue work; the future resolves to its result after commit.

        Work `in_background` must be short. It gets a transaction of its own once no other work waits. Raises
        `ServiceUnavailable`.
        """
        if self._worker is None or self._worker.done() or len(self._waiting) >= _MAX_WAITING:
            raise ServiceUnavailable("The service can't accept more changes right now.")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        (self._background if in_background else self._waiting).append((work, future))
        self._wake.set()
        return future

    async def _run(self) -> None:
        while True:
            if not self._waiting and not self._background:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            batch = self._next_batch()
            await self._commit_batch(batch)

    def _next_batch(self) -> list[tuple[W, asyncio.Future[Any]]]:
        if self._background and (not self._waiting or self._batches_ahead >= _MAX_BATCHES_AHEAD):
            self._batches_ahead = 0
            return [self._background.pop(0)]
        self._batches_ahead = self._batches_ahead + 1 if self._background else 0
        size = 1 if self._one_by_one else _MAX_BATCH
        self._one_by_one = max(self._one_by_one - 1, 0)
        batch, self._waiting = self._waiting[:size], self._waiting[size:]
        return batch

    async def _commit_batch(self, batch: list[tuple[W, asyncio.Future[Any]]]) -> None:
        try:
            outcomes = await self.commit([work for work, _ in batch])
        except ServiceUnavailable as error:
            # Trying the rest would take as long and fail as well.
            batch = batch + self._waiting + self._background
            self._waiting, self._background, self._one_by_one = [], [], 0
            self.has_failed = True
            _log.warning("commit_failed", changes=len(batch), reason=repr(error.__cause__))
            outcomes = [ServiceUnavailable(error.detail) for _ in batch]
        except Exception as error:  # noqa: BLE001 -- passed on to the caller whose work causes it
            if len(batch) > 1:
                # Back into the queue, so that an outage fails them all at once.
                self._waiting, self._one_by_one = batch + self._waiting, len(batch)
                return
            outcomes = [error]
        for (_, future), outcome in zip(batch, outcomes, strict=True):
            if future.done():
                continue
            if isinstance(outcome, BaseException):
                future.set_exception(outcome)
                # Mark as retrieved, so that asyncio doesn't warn if the caller has left.
                future.exception()
            else:
                future.set_result(outcome)
