"""Group commits: every change that waits while one transaction is under way shares the next.

A service calls `create`, `move` or `run` like any other await; when it returns, the change is durable. Durable
commits are the scarce thing (each waits for the disk), and this is the only place that makes them.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

import structlog
from msgspec.structs import replace

from app.clock import Clock
from app.db import callbacks as callback_rows
from app.db import deliveries as delivery_rows
from app.db import events as event_rows
from app.db import facts
from app.db import idempotency as idempotency_rows
from app.db import tasks as task_rows
from app.db.bulk import BulkWrite
from app.db.engine import Connection, Database
from app.domain.callback import ReceivedCallback
from app.domain.delivery import plan
from app.domain.event import TaskEvent, event_of
from app.domain.idempotency import LIFETIME, IdempotencyKey, Reservation
from app.domain.moves import Step
from app.domain.quota import Quota
from app.domain.task import Task
from app.errors import GatewayError, IdempotencyKeyReused, ServiceUnavailable
from app.services.quotas import charge
from app.services.removal import remove_tasks
from app.services.unit import Decider, Unit

T = TypeVar("T")
_MAX_BATCH = 256
# What waits when the database is away waits in memory; past this the answer is 503 at once.
_MAX_WAITING = 5_000
_STUCK_AFTER_SECONDS = 90.0
# Whoever is told goes on at once; with a whole batch of them, what the database says to the next one would wait.
_TOLD_AT_ONCE = 8
_KEY_REUSED = "This Idempotency-Key was already used for a request with another content."
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Create:
    task: Task
    reservation: Reservation | None
    done: asyncio.Future[str]
    """Resolves to the id of the task that now stands for the request: this one, or the first with its key."""
    quotas: Sequence[Quota] = ()


@dataclass(slots=True)
class _Move:
    task_id: str
    decide: Decider[Any]
    done: asyncio.Future[Any]


@dataclass(slots=True)
class _Run:
    work: Callable[[Unit], Any]
    done: asyncio.Future[Any]
    locking: str | None = None
    blob: str = ""


_Item = _Create | _Move | _Run
_Results = list[tuple[_Item, Any]]


class Writer:
    """The one writer of this process. `on_commit` is told the events of each committed transaction.

    With `keeps_images`, images of tasks that succeed are to be fetched; else no copies are made.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        on_commit: Callable[[Sequence[TaskEvent]], None],
        *,
        keeps_images: bool = False,
    ) -> None:
        self._database = database
        self._clock = clock
        self._on_commit = on_commit
        self._keeps_images = keeps_images
        self._waiting: list[_Item] = []
        self._committed: deque[tuple[_Item, Any]] = deque()
        """What came of changes whose callers are still to be told."""
        self._wake = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._reserving: set[IdempotencyKey] = set()
        self._closing = False
        self._began: float | None = None
        self._has_failed = False

    def start(self) -> None:
        """Start committing."""
        self._worker = asyncio.create_task(self._work(), name="writer")

    async def aclose(self) -> None:
        """Commit what waits, then stop."""
        self._closing = True
        self._wake.set()
        if self._worker is not None:
            await self._worker
        while self._committed:
            _settle(*self._committed.popleft())

    @property
    def is_stuck(self) -> bool:
        """Whether nothing can be written any more: the work has died, or one transaction takes too long."""
        if self._worker is None or self._closing:
            return False
        began = self._began
        return self._worker.done() or (began is not None and time.monotonic() - began > _STUCK_AFTER_SECONDS)

    async def is_able(self) -> bool:
        """Whether changes can be committed: if the last commits failed, by trying; a full disk can still be read."""
        if not self._has_failed:
            return True
        try:
            await self.run(_leave_a_mark)
        except ServiceUnavailable:
            return False
        self._has_failed = False
        return True

    def is_reserving(self, key: IdempotencyKey) -> bool:
        """Whether a request with this key is on its way to its commit in this process."""
        return key in self._reserving

    async def create(self, task: Task, reservation: Reservation | None = None, quotas: Sequence[Quota] = ()) -> str:
        """Insert a new task and tell of it; with a reservation, only if its key is not taken.

        Returns the id of the task that stands for the request; raises `IdempotencyKeyReused` if the key stands for
        a request with another content, and the refusal of a quota that a new task doesn't fit into.
        """
        if reservation is None:
            return str(await self._put(_Create(task, None, self._future(), quotas)))
        self._reserving.add(reservation.key)
        item = _Create(task, reservation, self._future(), quotas)
        # Discarded by the future, not by us, and shielded: a caller that goes away does not undo the commit.
        item.done.add_done_callback(lambda _: self._reserving.discard(reservation.key))
        return str(await asyncio.shield(self._put(item)))

    async def move(self, task_id: str, decide: Decider[T]) -> T:
        """Lock a task, let `decide` say what becomes of it, and commit that."""
        result: T = await self._put(_Move(task_id, decide, self._future()))
        return result

    async def run(self, work: Callable[[Unit], T], *, locking: str | None = None, blob: str = "") -> T:
        """Do `work` in the next transaction. A `GatewayError` is to be raised before anything is written.

        With the id of a task as `locking` its row is locked before; with those of all others, so that none deadlock.
        For the same reason work that locks a `blob` names its hash: such works are done in the order of these.
        """
        result: T = await self._put(_Run(work, self._future(), locking, blob))
        return result

    @staticmethod
    def _future() -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    def _put(self, item: _Item) -> asyncio.Future[Any]:
        if self._worker is None or self._worker.done() or len(self._waiting) >= _MAX_WAITING:
            item.done.cancel()
            raise ServiceUnavailable("The service can't take in more changes right now.")
        self._waiting.append(item)
        self._wake.set()
        return item.done

    async def _work(self) -> None:
        while True:
            if not self._waiting:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
            self._began = time.monotonic()
            await self._commit(batch)
            self._began = None

    async def _commit(self, batch: list[_Item]) -> None:
        """Commit a batch; if it fails for one item's sake, commit its items one by one."""
        try:
            results, unit = await self._database.write(lambda connection: self._apply(batch, connection))
        except ServiceUnavailable as error:
            # Those who wait behind would each wait as long for the same answer; nothing of theirs was tried.
            batch, self._waiting = batch + self._waiting, []
            self._has_failed = True
            _log.warning("commit_failed", changes=len(batch), cause=repr(error.__cause__))
            for item in batch:
                _settle(item, ServiceUnavailable(error.detail))
        except Exception as error:  # noqa: BLE001 -- whatever one change provokes is its caller's, not everybody's
            if len(batch) == 1:
                _settle(batch[0], error)
                return
            for item in batch:
                await self._commit([item])
        else:
            self._tell(unit)
            if not self._committed:
                asyncio.get_running_loop().call_soon(self._settle_some)
            self._committed.extend(results)

    def _settle_some(self) -> None:
        """Tell a few callers at each turn of the event loop, while the next batch is under way."""
        for _ in range(min(_TOLD_AT_ONCE, len(self._committed))):
            _settle(*self._committed.popleft())
        if self._committed:
            asyncio.get_running_loop().call_soon(self._settle_some)

    def _tell(self, unit: Unit) -> None:
        try:
            for act in unit.after:
                act()
            if unit.events:
                self._on_commit(unit.events)
        except Exception:  # noqa: BLE001 -- logged; whoever listens must not be able to stop all writing
            _log.exception("listener_failed")

    def _apply(self, batch: list[_Item], connection: Connection) -> tuple[_Results, Unit]:
        results: _Results = []
        unit = Unit(connection, self._clock.now(), self._keeps_images)
        creations = [item for item in batch if isinstance(item, _Create)]
        if creations:
            results += _create_all(unit, creations)
        moves = [item for item in batch if isinstance(item, _Move)]
        runs = sorted((item for item in batch if isinstance(item, _Run)), key=attrgetter("blob"))
        locked = {item.locking for item in runs if item.locking is not None}
        if moves or runs:
            _write_tasks(unit)
        if moves:
            results += _move_all(unit, moves, locked)
        elif locked:
            task_rows.lock(connection, locked)
        if runs:
            _write_tasks(unit)
        for run in runs:
            try:
                results.append((run, run.work(unit)))
            except GatewayError as error:
                results.append((run, error))
        _write_all(unit)
        return results, unit


def _leave_a_mark(unit: Unit) -> None:
    """Change something, whatever it is."""
    facts.put(unit.connection, "written_at", str(unit.now))


def _write_tasks(unit: Unit) -> None:
    """Write the tasks decided about so far, for those who come next to find them."""
    if unit.created:
        task_rows.add(unit.connection, unit.created)
    if unit.changed:
        task_rows.save(unit.connection, unit.changed, unit.before)
    unit.created, unit.changed = [], []


def _write_all(unit: Unit) -> None:
    """Write what was decided, in one go; events with the lock on their numbers last."""
    texts = callback_rows.add_others(unit.connection, unit.callbacks)
    planned = [delivery for delivery in map(plan, unit.events) if delivery is not None]
    writes: list[tuple[BulkWrite, Sequence[Any]]] = [
        (task_rows.ADD, unit.created),
        (task_rows.saving(unit.changed, unit.before), unit.changed),
        (callback_rows.ADD_TEXTS, texts),
        (task_rows.ADD_IMAGES, unit.images),
        (delivery_rows.ADD, planned),
        (event_rows.APPEND, unit.events),
    ]
    # Inserts write all or fail: what is missing are tasks that were not as they had been read.
    missing = sum(len(objects) for _, objects in writes) - BulkWrite.execute_all(unit.connection, writes)
    task_rows.check_saved(len(unit.changed) - missing, unit.changed)
    for task_id in unit.overfull:
        callback_rows.trim(unit.connection, task_id)


def _create_all(unit: Unit, items: list[_Create]) -> _Results:
    results: _Results = []
    reservations = [item.reservation for item in items if item.reservation is not None]
    held: dict[IdempotencyKey, Reservation] = {}
    if reservations:
        held = idempotency_rows.reserve(unit.connection, reservations, now=unit.now, lifetime=LIFETIME)
    refused = _refuse(unit, items, held) if any(item.quotas for item in items) else {}
    new: list[Task] = []
    for item in items:
        holder = held[item.reservation.key] if item.reservation else None
        if refusal := refused.get(holder.task_id if holder else item.task.id):
            results.append((item, refusal))
        elif holder is None or holder.task_id == item.task.id:
            new.append(item.task)
            results.append((item, item.task.id))
        elif item.reservation and holder.fingerprint != item.reservation.fingerprint:
            results.append((item, IdempotencyKeyReused(_KEY_REUSED)))
        else:
            results.append((item, holder.task_id))
    if new:
        unit.created.extend(new)
        unit.events.extend(map(event_of, new))
    return results


def _refuse(unit: Unit, items: list[_Create], held: dict[IdempotencyKey, Reservation]) -> dict[str, GatewayError]:
    """Count those that are new against their quotas, and free the keys of those that don't fit."""
    new = [item for item in items if item.reservation is None or held[item.reservation.key].task_id == item.task.id]
    wanted = {item.task.id: item.quotas for item in new if item.quotas}
    refused = charge(unit, wanted) if wanted else {}
    freed = [item.reservation.key for item in new if item.reservation and item.task.id in refused]
    if freed:
        idempotency_rows.release(unit.connection, freed)
    return refused


def _move_all(unit: Unit, items: list[_Move], also_locked: set[str]) -> _Results:
    """Let each item decide about its task in the order of arrival, then write what came of it, once for each task.

    Tasks that others in the batch want locked are locked in the same statement.
    """
    results: _Results = []
    tasks: dict[str, Task | None] = {}
    tasks.update(task_rows.lock(unit.connection, {item.task_id for item in items} | also_locked))
    original = dict(tasks)
    steps: list[Step] = []
    kept: list[ReceivedCallback] = []
    for item in items:
        task = tasks.get(item.task_id)
        try:
            decision = item.decide(task)
        except GatewayError as error:
            results.append((item, error))
            continue
        results.append((item, decision.result))
        if task is None:
            continue
        if decision.step:
            steps.append(decision.step)
            task = decision.step.task
        if decision.callback:
            kept.append(decision.callback)
            task = replace(task, callbacks=task.callbacks + 1)
        tasks[item.task_id] = None if decision.remove else task

    _write_moved(unit, original, tasks, steps, kept)
    return results


def _write_moved(
    unit: Unit,
    original: dict[str, Task | None],
    tasks: dict[str, Task | None],
    steps: list[Step],
    kept: list[ReceivedCallback],
) -> None:
    """Write what became of locked tasks; of one that is deleted (None), nothing else is written."""
    removed = {task_id for task_id, task in tasks.items() if task is None}
    if removed:
        remove_tasks(unit, removed)
    for step in steps:
        if step.task.id not in removed:
            unit.note(step)
    changed = [task for task_id, task in tasks.items() if task is not None and task is not original[task_id]]
    unit.changed.extend(changed)
    unit.before.update(original)
    unit.callbacks.extend(callback for callback in kept if callback.task_id not in removed)
    if kept:
        unit.overfull.extend(task.id for task in changed if task.callbacks > callback_rows.KEPT_PER_TASK)


def _settle(item: _Item, result: Any) -> None:
    if item.done.done():
        return
    if isinstance(result, BaseException):
        item.done.set_exception(result)
        # Nobody may be waiting any more; asyncio would otherwise complain of an exception never fetched.
        item.done.exception()
    else:
        item.done.set_result(result)
