"""The task service: submit, get, list, cancel, retry, delete."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.clock import Clock
from app.db import callback_store, idempotency_store, task_store
from app.db.engine import Connection, Database
from app.domain import transitions
from app.domain.callback import ReceivedCallback
from app.domain.caller import Caller
from app.domain.idempotency import IdempotencyKey, Reservation, fingerprint
from app.domain.policy import Policy
from app.domain.quota import Quota
from app.domain.submission import Submission
from app.domain.task import Status, Task, TaskFilter, TaskState, new_task
from app.domain.waiting import task_wait
from app.errors import (
    GatewayError,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InvalidRequest,
    NotCancelable,
    NotDeletable,
    NotRetryable,
    ServiceUnavailable,
    TaskGone,
    TaskNotFound,
)
from app.tasks.admission import Admission
from app.tasks.loader import TaskLoader, TaskWithImages, images_of
from app.tasks.queue import Queue, QueueSnapshot, RateExhausted
from app.writing.task_batch import KEY_REUSED
from app.writing.unit_of_work import Decision
from app.writing.wake_up import WakeUp
from app.writing.writer import Writer

_STATES = {
    Status.SUBMITTING: "is being submitted",
    Status.SUCCEEDED: "has already succeeded",
    Status.FAILED: "has already failed",
    Status.CANCELED: "has already been canceled",
}
_log = structlog.get_logger(__name__)
ExtendExpiry = Callable[[Sequence[str]], Awaitable[None]]
"""Extends the expiry of uploads among these URLs; raises `InvalidRequest` if one has expired or doesn't exist."""


@dataclass(eq=False, kw_only=True)
class TaskService:
    """What clients can do with tasks.

    Every method raises `TaskNotFound` for another caller's task. Without `admission`, submits are not limited.
    `rate_exhausted_until` is the upstream's rate limit, if there is one.
    """

    database: Database
    writer: Writer
    clock: Clock
    policy: Policy
    admission: Admission | None = None
    extend_expiry: ExtendExpiry | None = None
    collect: WakeUp | None = None
    rate_exhausted_until: RateExhausted | None = None

    def __post_init__(self) -> None:
        self._queue = Queue(self.database, self.clock, self.rate_exhausted_until)
        self._loader = TaskLoader(self.database)

    async def submit(
        self, caller: Caller, submission: Submission, idempotency_key: str | None = None
    ) -> tuple[TaskState, bool]:
        """Accept a task durably; also returns whether it's a replay.

        Raises `IdempotencyInProgress`, `IdempotencyKeyReused`, `TaskGone` if the key's task was deleted, `RateLimited`,
        `TokenExhausted` or `DailyBudgetExceeded`.
        """
        if self.admission is None:
            return await self._submit(caller, submission, idempotency_key, ())
        admitted = await self.admission.admit(caller)
        try:
            state, is_replay = await self._submit(caller, submission, idempotency_key, admitted.quotas)
        except GatewayError:
            self.admission.refund(admitted)
            raise
        if is_replay:
            self.admission.refund(admitted)
        return state, is_replay

    async def _submit(
        self, caller: Caller, submission: Submission, idempotency_key: str | None, quotas: Sequence[Quota]
    ) -> tuple[TaskState, bool]:
        task = new_task(
            project=caller.project,
            subject=submission.subject or caller.subject,
            model=submission.model,
            task_input=submission.input,
            metadata=submission.metadata,
            webhook_url=submission.webhook_url,
            retry_of=submission.retry_of,
            now=self.clock.now(),
            queue_timeout=self.policy.queue_timeout,
        )
        reservation = None
        if idempotency_key is not None:
            key = _key(caller, idempotency_key)
            if self.writer.is_reserving(key):
                raise IdempotencyInProgress("The first request with this Idempotency-Key is still being committed.")
            reservation = Reservation(key, _fingerprint(submission), task.id)
        if self.extend_expiry is not None and submission.input["image_urls"]:
            try:
                await self.extend_expiry(submission.input["image_urls"])
            except InvalidRequest:
                # A replay returns its task even if an upload has expired since.
                if reservation is None or await self._reserved(reservation.key) is None:
                    raise
        task_id = await self.writer.create(task, reservation, quotas)
        if task_id == task.id:
            _log.info("task_accepted", task_id=task.id, model=task.model.value, project=task.project)
            return await self._accepted(task), False
        return await self._state_of_replay(task_id), True

    async def replay(self, caller: Caller, submission: Submission, idempotency_key: str | None) -> TaskState | None:
        """Find the task of an earlier submit with this key.

        Raises `IdempotencyKeyReused` and `TaskGone`.
        """
        held = None if idempotency_key is None else await self._reserved(_key(caller, idempotency_key))
        if held is None:
            return None
        if held.fingerprint != _fingerprint(submission):
            raise IdempotencyKeyReused(KEY_REUSED)
        return await self._state_of_replay(held.task_id)

    async def _state_of_replay(self, task_id: str) -> TaskState:
        state = await self._state(task_id)
        if state is None:
            raise TaskGone("The task created with this Idempotency-Key was deleted.")
        return state

    async def _accepted(self, task: Task) -> TaskState:
        """Return a new task's state without raising.

        An error now would make a durable task look rejected.
        """
        try:
            return (await self._states([(task, [])]))[0]
        except (ServiceUnavailable, SQLAlchemyError):
            return TaskState(task, [], None)

    async def _reserved(self, key: IdempotencyKey) -> Reservation | None:
        return await self.database.read(lambda connection: idempotency_store.get(connection, key))

    async def get(self, caller: Caller, task_id: str) -> TaskState:
        """Read a task."""
        state = await self._state(task_id)
        if state is None or not caller.owns(state.task):
            raise _not_found(task_id)
        return state

    async def page(
        self, caller: Caller, wanted: TaskFilter, *, before_id: str | None, limit: int
    ) -> tuple[list[TaskState], str | None]:
        """Return a page, newest first, and the next page's `before_id`."""

        def work(connection: Connection) -> list[TaskWithImages]:
            found = task_store.page(
                connection, caller.project, caller.subject, wanted, before_id=before_id, limit=limit + 1
            )
            images = images_of(connection, found)
            return [(task, images.get(task.id, [])) for task in found]

        found = await self.database.read(work)
        states = await self._states(found[:limit])
        return states, states[-1].task.id if len(found) > limit else None

    async def cancel(self, caller: Caller, task_id: str) -> TaskState:
        """Cancel a queued task; raises `NotCancelable` once it is claimed."""

        def decide(task: Task | None) -> Decision[Task]:
            if task is None or not caller.owns(task):
                raise _not_found(task_id)
            transition = transitions.cancel(task, self.clock.now())
            if transition is None:
                raise NotCancelable(f"The task {_state_of(task)}; only a queued task can be canceled.")
            return Decision(transition.task, transition)

        canceled = await self.writer.move(task_id, decide)
        _log.info("task_canceled", task_id=task_id)
        return TaskState(canceled, [], None)

    async def retry(self, caller: Caller, task_id: str, idempotency_key: str | None = None) -> tuple[TaskState, bool]:
        """Submit a failed or canceled task again; raises `NotRetryable`."""
        if idempotency_key is not None and (replay := await self._replay_of_retry(caller, task_id, idempotency_key)):
            return replay, True
        old = (await self.get(caller, task_id)).task
        if old.status not in {Status.FAILED, Status.CANCELED}:
            raise NotRetryable(f"The task {_state_of(old)}; only a failed or canceled task can be retried.")
        again = Submission(
            model=old.model,
            input=old.input,
            metadata=old.metadata,
            webhook_url=old.webhook_url,
            retry_of=old.id,
            subject=old.subject,
        )
        return await self.submit(caller, again, idempotency_key)

    async def _replay_of_retry(self, caller: Caller, task_id: str, idempotency_key: str) -> TaskState | None:
        """Find the task of an earlier retry with this key."""
        held = await self._reserved(_key(caller, idempotency_key))
        state = await self._state(held.task_id) if held else None
        if state is None or state.task.retry_of != task_id or not caller.owns(state.task):
            return None
        return state

    async def delete(self, caller: Caller, task_id: str) -> None:
        """Delete a finished task and its records; raises `NotDeletable`."""

        def decide(task: Task | None) -> Decision[None]:
            if task is None or not caller.owns(task):
                raise _not_found(task_id)
            if not task.is_terminal:
                raise NotDeletable(f"The task {_state_of(task)}; only a finished task can be deleted.")
            return Decision(None, remove=True)

        await self.writer.move(task_id, decide)
        _log.info("task_deleted", task_id=task_id)
        if self.collect is not None:
            self.collect.wake()

    async def callbacks(self, caller: Caller, task_id: str) -> list[ReceivedCallback]:
        """Read the callbacks received for a task, newest first."""

        def work(connection: Connection) -> list[ReceivedCallback]:
            if not caller.owns(task_store.get(connection, task_id)):
                raise _not_found(task_id)
            return callback_store.of_task(connection, task_id)

        return await self.database.read(work)

    async def _state(self, task_id: str) -> TaskState | None:
        found = await self._loader.load(task_id)
        return (await self._states([found]))[0] if found else None

    async def _states(self, found: Sequence[TaskWithImages]) -> list[TaskState]:
        """Add queue positions and reasons to wait.

        Don't call it in a transaction, because it reads.
        """
        is_any_queued = any(task.status is Status.QUEUED for task, _ in found)
        queue = await self._queue.look() if is_any_queued else QueueSnapshot()
        now = self.clock.now()
        return [
            TaskState(
                task,
                images,
                queue.position(task.id) if task.status is Status.QUEUED else None,
                task_wait(task, queue.account, queue.slot_free_at, now),
            )
            for task, images in found
        ]


def _key(caller: Caller, key: str) -> IdempotencyKey:
    return IdempotencyKey(caller.project, caller.subject or "", key)


def _fingerprint(submission: Submission) -> str:
    images = {} if submission.identity is None else {"image_urls": submission.identity}
    return fingerprint(
        {
            "model": submission.model.value,
            "input": submission.input | images,
            "metadata": submission.metadata,
            "webhook_url": submission.webhook_url,
            "retry_of": submission.retry_of,
        }
    )


def _state_of(task: Task) -> str:
    return _STATES.get(task.status, f"is {task.status.value}")


def _not_found(task_id: str) -> TaskNotFound:
    return TaskNotFound(f"No task has the ID {task_id[:64]}.")
