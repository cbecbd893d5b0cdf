"""What a batch of task changes writes, in one transaction."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from app.db import idempotency_store, task_store
from app.db.callback_store import KEPT_PER_TASK
from app.domain.callback import ReceivedCallback
from app.domain.event import event_of
from app.domain.idempotency import LIFETIME_MS, IdempotencyKey, Reservation
from app.domain.quota import Quota
from app.domain.task import Task
from app.domain.transitions import Transition
from app.errors import GatewayError, IdempotencyKeyReused
from app.writing.quotas import charge
from app.writing.removal import remove_tasks
from app.writing.unit_of_work import Decider, UnitOfWork

_KEY_REUSED = "This Idempotency-Key was already used for a request with different content."


@dataclass(frozen=True, slots=True)
class Creation:
    """A task to insert. Its outcome is the id of the task that serves the request: this one, or the key's first."""

    task: Task
    reservation: Reservation | None = None
    quotas: Sequence[Quota] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """A decision about a task, made with its row locked. Its outcome is the decision's result."""

    task_id: str
    decide: Decider[Any]


@dataclass(frozen=True, slots=True)
class Run:
    """Any other work of a transaction. Its outcome is what it returns.

    With a task's id as `locking` that row is locked before. Work that locks a `blob` gives its hash.
    """

    work: Callable[[UnitOfWork], Any]
    locking: str | None = None
    blob: str = ""


Work = Creation | Change | Run


class TaskBatch:
    """Applies works in one transaction: creations, then changes, then all others."""

    def __init__(self, unit: UnitOfWork, works: Sequence[Work]) -> None:
        self._unit = unit
        self._outcomes: list[Any] = [None] * len(works)
        numbered = list(enumerate(works))
        self._creations = [(n, work) for n, work in numbered if isinstance(work, Creation)]
        self._changes = [(n, work) for n, work in numbered if isinstance(work, Change)]
        runs = [(n, work) for n, work in numbered if isinstance(work, Run)]
        # In the order of the blobs' hashes, so that transactions that lock the same ones don't deadlock.
        self._runs = sorted(runs, key=lambda run: run[1].blob)

    def apply(self) -> list[Any]:
        """Write everything and return the outcomes, in the order of the works."""
        if self._creations:
            self._create()
        locked = {run.locking for _, run in self._runs if run.locking is not None}
        if self._changes:
            self._unit.flush_tasks()
            self._change(locked)
        elif locked:
            self._unit.flush_tasks()
            task_store.lock(self._unit.connection, locked)
        if self._runs:
            self._unit.flush_tasks()
        for number, run in self._runs:
            try:
                self._outcomes[number] = run.work(self._unit)
            except GatewayError as error:
                self._outcomes[number] = error
        self._unit.flush()
        return self._outcomes

    def _create(self) -> None:
        unit = self._unit
        reservations = [work.reservation for _, work in self._creations if work.reservation is not None]
        held: dict[IdempotencyKey, Reservation] = {}
        if reservations:
            held = idempotency_store.reserve(unit.connection, reservations, now=unit.now, lifetime=LIFETIME_MS)
        refused = self._refuse(held)
        for number, work in self._creations:
            task, reservation = work.task, work.reservation
            holder = held[reservation.key] if reservation else None
            if refusal := refused.get(holder.task_id if holder else task.id):
                self._outcomes[number] = refusal
            elif holder is None or holder.task_id == task.id:
                self._outcomes[number] = task.id
                unit.created.append(task)
                unit.events.append(event_of(task))
            elif reservation and holder.fingerprint != reservation.fingerprint:
                self._outcomes[number] = IdempotencyKeyReused(_KEY_REUSED)
            else:
                self._outcomes[number] = holder.task_id

    def _refuse(self, held: dict[IdempotencyKey, Reservation]) -> dict[str, GatewayError]:
        """Charge new tasks to their quotas, and free the keys of those that exceed one."""
        works = [work for _, work in self._creations]
        if not any(work.quotas for work in works):
            return {}
        new = [w for w in works if w.reservation is None or held[w.reservation.key].task_id == w.task.id]
        wanted = {work.task.id: work.quotas for work in new if work.quotas}
        refused = charge(self._unit, wanted) if wanted else {}
        freed = [work.reservation.key for work in new if work.reservation and work.task.id in refused]
        if freed:
            idempotency_store.release(self._unit.connection, freed)
        return refused

    def _change(self, also_locked: set[str]) -> None:
        """Let each change decide about its task in the order of arrival; write each task once."""
        # One statement locks all rows of the batch, in the order of their ids.
        locked = task_store.lock(self._unit.connection, {change.task_id for _, change in self._changes} | also_locked)
        tasks: dict[str, Task | None] = dict(locked)
        applied: list[Transition] = []
        kept: list[ReceivedCallback] = []
        for number, change in self._changes:
            task = tasks.get(change.task_id)
            try:
                decision = change.decide(task)
            except GatewayError as error:
                self._outcomes[number] = error
                continue
            self._outcomes[number] = decision.result
            if task is None:
                continue
            if decision.transition:
                applied.append(decision.transition)
                task = decision.transition.task
            if decision.callback:
                kept.append(decision.callback)
                task = replace(task, callbacks=task.callbacks + 1)
            tasks[change.task_id] = None if decision.remove else task
        self._note(locked, tasks, applied, kept)

    def _note(
        self,
        before: dict[str, Task],
        after: dict[str, Task | None],
        applied: Sequence[Transition],
        kept: Sequence[ReceivedCallback],
    ) -> None:
        """Note what the changes came to; for a deleted task (None) nothing else is written."""
        removed = {task_id for task_id, task in after.items() if task is None}
        if removed:
            remove_tasks(self._unit, removed)
        for transition in applied:
            if transition.task.id not in removed:
                self._unit.note(transition)
        changed = [task for task_id, task in after.items() if task is not None and task is not before[task_id]]
        self._unit.changed += changed
        self._unit.callbacks += [callback for callback in kept if callback.task_id not in removed]
        if kept:
            self._unit.overfull += [task.id for task in changed if task.callbacks > KEPT_PER_TASK]
