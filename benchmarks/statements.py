"""Statements whose cost must not grow with the history."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, cast

from app.db import batch_store, event_store, idempotency_store, task_store
from app.db.batch_store import Batch
from app.db.engine import Connection, Database
from app.domain.idempotency import LIFETIME_MS, IdempotencyKey, Reservation
from app.domain.models import Model, TaskType
from app.domain.policy import Policy
from app.domain.task import Status, TaskFilter
from app.tasks.retention import Retention
from app.upstream.client import UpstreamClient
from app.upstream.dispatcher import Dispatcher
from app.upstream.reconciler import Reconciler
from app.writing.unit_of_work import UnitOfWork
from app.writing.wake_up import WakeUp
from app.writing.writer import Writer
from benchmarks.bulk import CLAIMED_BY, IN_FLIGHT, History

_PAGE = 51
_DAYS = 86_400_000
_POLICY = Policy(
    queue_timeout=86_400_000,
    task_timeout=900_000,
    poll_after=60_000,
    submit_tries=5,
    hold_retry=60_000,
    upstream_timeout=30_000,
)
# The number of a task that has succeeded in any history, with an image and events.
_SUCCEEDED = 9_909


@dataclass(frozen=True, slots=True)
class Statement:
    """A service function to call in a rolled-back transaction."""

    name: str
    call: Callable[[Connection], Any]


class _Rehearsal:
    """Replaces the writer; works in the caller's transaction."""

    def __init__(self, connection: Connection, now: int) -> None:
        self._connection = connection
        self._now = now

    async def run(self, work: Callable[[UnitOfWork], Any]) -> Any:
        """Run the work immediately."""
        return work(UnitOfWork(self._connection, self._now))

    run_in_background = run


def _complete(call: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that awaits nothing but a rehearsal."""
    try:
        call.send(None)
    except StopIteration as end:
        return end.value
    raise RuntimeError("the coroutine awaits something else")


class _StoppedClock:
    def __init__(self, now: int) -> None:
        self._now = now

    def now(self) -> int:
        return self._now


def statements(history: History, database: Database, client: UpstreamClient) -> list[Statement]:
    """List statements with parameters for a history; `client` stays unused."""
    return [*_reads(history), *_pages(history), *_claims(history), *_services(history, database, client)]


def _reads(history: History) -> list[Statement]:
    ids = [history.task_id(_SUCCEEDED - 4 * number) for number in range(50)]
    return [
        Statement("get", lambda c: task_store.get(c, ids[0])),
        Statement("images_of, 50 tasks", lambda c: task_store.images_of(c, ids)),
        Statement("event_store.of_task", lambda c: event_store.of_task(c, ids[0])),
        Statement("lock and save, 50 tasks", lambda c: _lock_and_save(c, ids)),
        Statement("remove", lambda c: task_store.remove(c, ids[:1])),
        Statement("queue_marks", lambda c: task_store.queue_marks(c, 5_000)),
    ]


def _lock_and_save(connection: Connection, ids: list[str]) -> None:
    locked = task_store.lock(connection, ids)
    batch_store.write(connection, Batch(changed=list(locked.values())))


def _pages(history: History) -> list[Statement]:
    def page(
        name: str, *, subject: str | None = None, before_id: str | None = None, project: str = "default", **wanted: Any
    ) -> Statement:
        shown = TaskFilter(**wanted)
        return Statement(
            f"page, {name}",
            lambda c: task_store.page(c, project, subject, shown, before_id=before_id, limit=_PAGE),
        )

    oldest = history.task_id(history.rows - 100)
    long_ago = history.now - history.rows * 900
    return [
        page("newest"),
        page("of a small project", project="project-7"),
        page("of an empty project", project="nobody"),
        page("far down", before_id=oldest),
        page("status=queued", status=Status.QUEUED),
        page("status=processing", status=Status.PROCESSING),
        page("status=succeeded", status=Status.SUCCEEDED),
        page("status=canceled", status=Status.CANCELED),
        page("model of one task in a hundred", model=Model.NANO_BANANA_2, project="project-49"),
        page("unused model", model=Model.NANO_BANANA_2),
        page("type", type=TaskType.IMAGE_TO_IMAGE),
        page("created_after=now", created_after=history.now),
        page("created_before=long ago", created_before=long_ago),
        page("of a subject", subject="user-7", project="project-7"),
        page("of an unknown subject", subject="nobody"),
    ]


def _claims(history: History) -> list[Statement]:
    now = history.now
    keys = [IdempotencyKey("default", "", f"new-order-{number}") for number in range(100)]
    wanted = [Reservation(key, "0" * 64, "task_x") for key in keys]
    expired = now - LIFETIME_MS
    return [
        Statement("queued_projects", task_store.queued_projects),
        Statement("claimable, 16", lambda c: task_store.claimable(c, "default", now=now, limit=16)),
        Statement("next_queued", lambda c: task_store.next_queued(c, after="task_", now=now)),
        Statement("claimed_by", lambda c: task_store.claimed_by(c, CLAIMED_BY)),
        Statement("to_poll, 16", lambda c: task_store.to_poll(c, now=now, limit=16)),
        Statement("overdue, 200", lambda c: task_store.overdue(c, now=now, unpolled_before=now, limit=200)),
        Statement(
            "idempotency_store.reserve, 100 keys",
            lambda c: idempotency_store.reserve(c, wanted, now=now, lifetime=LIFETIME_MS),
        ),
        Statement("idempotency_store.sweep, 200", lambda c: idempotency_store.sweep(c, before=expired, limit=200)),
    ]


def _services(history: History, database: Database, client: UpstreamClient) -> list[Statement]:
    clock = _StoppedClock(history.now)

    def writer(connection: Connection) -> Writer:
        return cast(Writer, _Rehearsal(connection, history.now))

    def dispatch(connection: Connection) -> Dispatcher:
        return Dispatcher(
            database=database,
            writer=writer(connection),
            client=client,
            clock=clock,
            policy=_POLICY,
            rate_limit=None,
            callback_url=lambda task_id: task_id,
            wake_up=WakeUp(),
        )

    def reconcile(connection: Connection) -> Reconciler:
        return Reconciler(writer=writer(connection), client=client, clock=clock, policy=_POLICY)

    def retain(connection: Connection) -> Retention:
        return Retention(database=database, writer=writer(connection), clock=clock, days=0)

    return [
        # As many as a process sends to an upstream that has answered nothing yet.
        Statement("Dispatcher.claim, 4", lambda c: _complete(dispatch(c).claim(16))),
        Statement("Reconciler.claim, 4", lambda c: _complete(reconcile(c).claim(16))),
        Statement("Reconciler.expire", lambda c: _complete(reconcile(c).expire())),
        Statement("Retention.remove_expired", lambda c: _complete(retain(c).remove_expired())),
    ]


SMALLEST = max(IN_FLIGHT, _SUCCEEDED) + 1
"""The minimum length of a history for these statements."""
