"""What clients do with tasks: submit, look, list, cancel, retry, delete."""

from collections.abc import Awaitable, Callable, Sequence

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.clock import Clock
from app.db import callback_store, idempotency_store, task_store
from app.db.engine import Connection, Database
from app.domain import transitions
from app.domain.callback import ReceivedCallback
from app.domain.caller import Caller
from app.domain.idempotency import IdempotencyKey, Reservation, fingerprint
from app.domain.image import Image
from app.domain.policy import Policy
from app.domain.quota import Quota
from app.domain.submission import Submission
from app.domain.task import Status, Task, TaskFilter, new_task
from app.domain.task_state import TaskState
from app.errors import (
    GatewayError,
    IdempotencyInProgress,
    InvalidRequest,
    NotCancelable,
    NotDeletable,
    NotRetryable,
    ServiceUnavailable,
    TaskGone,
    TaskNotFound,
)
from app.tasks.admission import Admission
from app.tasks.loader import TaskLoader
from app.tasks.queue_positions import QueuePositions
from app.writing.unit_of_work import Decision
from app.writing.wake_up import WakeUp
from app.writing.writer import Writer

_log = structlog.get_logger(__name__)


ExtendExpiry = Callable[[Sequence[str]], Awaitable[None]]
"""Sees that what input images are at these addresses lives long enough; raises `InvalidRequest` if it can't."""


class TaskService:
    """The clients' side of the task lifecycle. Every method raises `TaskNotFound` for a task of somebody else.

    Without `admission` as many tasks are accepted as come.
    """

    def __init__(
        self,
        *,
        database: Database,
        writer: Writer,
        clock: Clock,
        policy: Policy,
        admission: Admission | None = None,
        extend_expiry: ExtendExpiry | None = None,
        collect: WakeUp | None = None,
    ) -> None:
        self._extend_expiry = extend_expiry
        self._collect = collect
        self._database = database
        self._writer = writer
        self._clock = clock
        self._policy = policy
        self._admission = admission
        self._positions = QueuePositions(database)
        self._loader = TaskLoader(database)

    async def submit(
        self, caller: Caller, submission: Submission, idempotency_key: str | None = None
    ) -> tuple[TaskState, bool]:
        """Accept a task: once this returns it is durable. The flag says that the key had brought it before.

        Raises `IdempotencyInProgress`, `IdempotencyKeyReused`, or `TaskGone` if the key's task was deleted; and
        `RateLimited`, `TokenExhausted` or `DailyBudgetExceeded`.
        """
        if self._admission is None:
            return await self._submit(caller, submission, idempotency_key, ())
        place = await self._admission.admit(project=caller.project, key_id=caller.key_id, token=caller.token)
        try:
            state, is_replay = await self._submit(caller, submission, idempotency_key, place.quotas)
        except GatewayError:
            self._admission.give_back(place)
            raise
        if is_replay:
            self._admission.give_back(place)
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
            now=self._clock.now(),
            queue_timeout=self._policy.queue_timeout,
        )
        reservation = None
        if idempotency_key is not None:
            key = _key(caller, idempotency_key)
            if self._writer.is_reserving(key):
                raise IdempotencyInProgress("The first request with this Idempotency-Key is still being committed.")
            reservation = Reservation(key, _fingerprint(submission), task.id)
        if self._extend_expiry is not None and submission.input["image_urls"]:
            await self._extend_uploads(self._extend_expiry, submission.input["image_urls"], reservation)
        task_id = await self._writer.create(task, reservation, quotas)
        if task_id == task.id:
            _log.info("task_accepted", task_id=task.id, model=task.model.value, project=task.project)
            return await self._accepted(task), False
        state = await self._state(task_id)
        if state is None:
            raise TaskGone("The task that this Idempotency-Key stands for was deleted.")
        return state, True

    async def _extend_uploads(
        self, extend_expiry: ExtendExpiry, urls: list[str], reservation: Reservation | None
    ) -> None:
        try:
            await extend_expiry(urls)
        except InvalidRequest:
            # A repeated request is answered with its task, whatever has expired since.
            if reservation is None:
                raise
            held = await self._database.read(lambda connection: idempotency_store.get(connection, reservation.key))
            if held is None:
                raise

    async def _accepted(self, task: Task) -> TaskState:
        """Answer from the task in hand: nothing that fails now may make a durable task look refused."""
        try:
            position = (await self._positions.of([task.id]))[task.id]
        except (ServiceUnavailable, SQLAlchemyError):
            position = None
        return TaskState(task, [], position)

    async def get(self, caller: Caller, task_id: str) -> TaskState:
        """Read a task."""
        state = await self._state(task_id)
        if state is None or not caller.owns(state.task):
            raise _not_found(task_id)
        return state

    async def page(
        self, caller: Caller, wanted: TaskFilter, *, before_id: str | None, limit: int
    ) -> tuple[list[TaskState], str | None]:
        """Read a page of tasks, newest first, and the id after which the next page begins, if there is one."""

        def work(connection: Connection) -> tuple[list[Task], dict[str, list[Image]]]:
            found = task_store.page(
                connection, caller.project, caller.subject, wanted, before_id=before_id, limit=limit + 1
            )
            return found, _images_of(connection, found[:limit])

        found, images = await self._database.read(work)
        shown = found[:limit]
        return await self._states(shown, images), shown[-1].id if len(found) > limit else None

    async def cancel(self, caller: Caller, task_id: str) -> TaskState:
        """Cancel a queued task; raises `NotCancelable` once it is claimed."""

        def decide(task: Task | None) -> Decision[Task]:
            if task is None or not caller.owns(task):
                raise _not_found(task_id)
            transition = transitions.cancel(task, self._clock.now())
            if transition is None:
                raise NotCancelable(f"The task is {task.status.value}; only a queued task can be canceled.")
            return Decision(transition.task, transition)

        canceled = await self._writer.move(task_id, decide)
        _log.info("task_canceled", task_id=task_id)
        return TaskState(canceled, [], None)

    async def retry(self, caller: Caller, task_id: str, idempotency_key: str | None = None) -> tuple[TaskState, bool]:
        """Submit a failed or canceled task's input again, as a new task; raises `NotRetryable` for any other."""
        if idempotency_key is not None and (replay := await self._replay_of_retry(caller, task_id, idempotency_key)):
            return replay, True
        old = (await self.get(caller, task_id)).task
        if old.status not in {Status.FAILED, Status.CANCELED}:
            raise NotRetryable(f"The task is {old.status.value}; only a failed or canceled task can be retried.")
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
        """Find what an earlier retry with this key made, whatever has become of the old task since."""

        def work(connection: Connection) -> tuple[Task, dict[str, list[Image]]] | None:
            held = idempotency_store.get(connection, _key(caller, idempotency_key))
            made = task_store.get(connection, held.task_id) if held else None
            if made is None or made.retry_of != task_id or not caller.owns(made):
                return None
            return made, _images_of(connection, [made])

        found = await self._database.read(work)
        return None if found is None else (await self._states([found[0]], found[1]))[0]

    async def delete(self, caller: Caller, task_id: str) -> None:
        """Delete a task that has ended, with all that hangs on it; raises `NotDeletable` while it has not."""

        def decide(task: Task | None) -> Decision[None]:
            if task is None or not caller.owns(task):
                raise _not_found(task_id)
            if not task.is_terminal:
                raise NotDeletable(f"The task is {task.status.value}; it can be deleted when it has ended.")
            return Decision(None, remove=True)

        await self._writer.move(task_id, decide)
        _log.info("task_deleted", task_id=task_id)
        if self._collect is not None:
            self._collect.wake()

    async def callbacks(self, caller: Caller, task_id: str) -> list[ReceivedCallback]:
        """Read what arrived at the task's callback address, newest first."""

        def work(connection: Connection) -> list[ReceivedCallback]:
            if not caller.owns(task_store.get(connection, task_id)):
                raise _not_found(task_id)
            return callback_store.of_task(connection, task_id)

        return await self._database.read(work)

    async def _state(self, task_id: str) -> TaskState | None:
        found = await self._loader.load(task_id)
        if found is None:
            return None
        task, images = found
        return (await self._states([task], {task.id: images}))[0]

    async def _states(self, tasks: list[Task], images: dict[str, list[Image]]) -> list[TaskState]:
        """Add positions; to be called without a connection in hand, as it may wait for one of its own."""
        positions = await self._positions.of([task.id for task in tasks if task.status is Status.QUEUED])
        return [TaskState(task, images.get(task.id, []), positions.get(task.id)) for task in tasks]


def _images_of(connection: Connection, tasks: list[Task]) -> dict[str, list[Image]]:
    return task_store.images_of(connection, [task.id for task in tasks if task.status is Status.SUCCEEDED])


def _key(caller: Caller, key: str) -> IdempotencyKey:
    return IdempotencyKey(caller.project, caller.subject or "", key)


def _fingerprint(submission: Submission) -> str:
    return fingerprint(
        {
            "model": submission.model.value,
            "input": submission.input
            if submission.identity is None
            else {**submission.input, "image_urls": submission.identity},
            "metadata": submission.metadata,
            "webhook_url": submission.webhook_url,
            "retry_of": submission.retry_of,
        }
    )


def _not_found(task_id: str) -> TaskNotFound:
    return TaskNotFound(f"There is no task {task_id[:64]}.")
