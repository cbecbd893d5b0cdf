"""Applies a batch of task changes in one transaction."""

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
from app.writing.unit_of_work import Decider, UnitOfWork

KEY_REUSED = "This Idempotency-Key was already used for a request with different content."


@dataclass(frozen=True, slots=True)
class Creation:
    """A task to insert.

    Returns its id, or the id of the task that holds the idempotency key.
    """

    task: Task
    reservation: Reservation | None = None
    quotas: Sequence[Quota] = ()


@dataclass(frozen=True, slots=True)
class Change:
    """A decision about a locked task. Returns the decision's result."""

    task_id: str
    decide: Decider[Any]


@dataclass(frozen=True, slots=True)
class Run:
    """Any other work, for `Writer.run`. Returns the work's result."""

    work: Callable[[UnitOfWork], Any]
    locking: str | None = None
    blob: str = ""


Item = Creation | Change | Run


class TaskBatch:
    """Applies items: creations, then changes, then all others."""

    def __init__(self, unit: UnitOfWork, items: Sequence[Item]) -> None:
        self._unit = unit
        self._outcomes: list[Any] = [None] * len(items)
        numbered = list(enumerate(items))
        self._creations = [(n, work) for n, work in numbered if isinstance(work, Creation)]
        self._changes = [(n, work) for n, work in numbered if isinstance(work, Change)]
        runs = [(n, work) for n, work in numbered if isinstance(work, Run)]
        # Sorted by hash, so that transactions that lock the same blobs don't deadlock.
        self._runs = sorted(runs, key=lambda run: run[1].blob)

    def apply(self) -> list[Any]:
        """Write everything; returns the outcomes in the items' order."""
        if self._creations:
            self._create()
        locked = {run.locking for _, run in self._runs if run.locking is not None}
        if self._changes or locked:
            self._unit.flush_tasks()
            self._change(locked)
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
                self._outcomes[number] = IdempotencyKeyReused(KEY_REUSED)
            else:
                self._outcomes[number] = holder.task_id

    def _refuse(self, held: dict[IdempotencyKey, Reservation]) -> dict[str, GatewayError]:
        """Charge new tasks to quotas and free rejected tasks' keys."""
        limited = [work for _, work in self._creations if work.quotas]
        new = [w for w in limited if w.reservation is None or held[w.reservation.key].task_id == w.task.id]
        refused = charge(self._unit, {work.task.id: work.quotas for work in new}) if new else {}
        freed = [work.reservation.key for work in new if work.reservation and work.task.id in refused]
        if freed:
            idempotency_store.release(self._unit.connection, freed)
        return refused

    def _change(self, also_locked: set[str]) -> None:
        """Decide changes in order of arrival; writes each task once."""
        # One statement locks all rows of the batch, ordered by id.
        before = task_store.lock(self._unit.connection, {change.task_id for _, change in self._changes} | also_locked)
        after: dict[str, Task | None] = dict(before)
        transitions: list[Transition] = []
        callbacks: list[ReceivedCallback] = []
        for number, change in self._changes:
            task = after.get(change.task_id)
            try:
                decision = change.decide(task)
            except GatewayError as error:
                self._outcomes[number] = error
                continue
            self._outcomes[number] = decision.result
            if task is None:
                continue
            if decision.transition:
                transitions.append(decision.transition)
                task = decision.transition.task
            if decision.callback:
                callbacks.append(decision.callback)
                task = replace(task, callbacks=task.callbacks + 1)
            after[change.task_id] = None if decision.remove else task
        # For a removed task (None) nothing else is written.
        self._unit.remove_tasks({task_id for task_id, task in after.items() if task is None})
        for transition in transitions:
            if after[transition.task.id] is not None:
                self._unit.record(transition)
        changed = [task for task_id, task in after.items() if task is not None and task is not before[task_id]]
        self._unit.changed += changed
        self._unit.callbacks += [callback for callback in callbacks if after[callback.task_id] is not None]
        self._unit.overfull += [t.id for t in changed if t.callbacks > max(KEPT_PER_TASK, before[t.id].callbacks)]
