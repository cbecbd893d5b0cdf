"""Polls the upstream about tasks without a callback, and ends overdue tasks."""

import structlog

from app.clock import Clock
from app.db import account_store, task_store
from app.domain import transitions
from app.domain.account import AccountState
from app.domain.policy import Policy
from app.domain.task import Task
from app.domain.verdict import Failed, Generating, Report, Succeeded, Unreadable
from app.upstream.interface import Upstream
from app.upstream.rate_limit import SharedRateLimit
from app.writing.leased_work import LeasedWork
from app.writing.unit_of_work import Decision, UnitOfWork
from app.writing.writer import Writer

# All replicas together make at most 20 record-info calls per second.
POLL_RATE_LIMIT = SharedRateLimit(scope="ask", count=20, held_for=1_000)
_EXPIRED_PER_BATCH = 200
_log = structlog.get_logger(__name__)


class Reconciler:
    """Polls about tasks without a callback and ends those past their deadline."""

    def __init__(
        self, *, writer: Writer, client: Upstream, clock: Clock, policy: Policy, record_pause: float = 0.5
    ) -> None:
        self._writer = writer
        self._client = client
        self._clock = clock
        self._policy = policy
        self._lease = 2 * policy.upstream_timeout
        self._work: LeasedWork[Task] = LeasedWork(
            "poll", lambda task: (task.id, task.ask_at or 0), clock=clock, pause_seconds=record_pause
        )

    async def claim(self, limit: int) -> list[Task]:
        """Claim up to `limit` tasks to poll about."""
        return await self._work.claim(self._writer.run(lambda unit: self._claim(unit, limit)))

    async def poll(self, task: Task) -> None:
        """Poll about a claimed task and apply the report. If cancelled, the lease runs out."""
        await self._work.run(task, self._poll(task))

    async def expire(self) -> int:
        """End tasks past their deadline; returns how many."""
        return await self._writer.run(self._expire)

    def _claim(self, unit: UnitOfWork, limit: int) -> list[Task]:
        slots = POLL_RATE_LIMIT.find_free(unit.connection, limit, unit.now)
        due = task_store.to_poll(unit.connection, now=unit.now, limit=len(slots)) if slots else []
        if due:
            POLL_RATE_LIMIT.take(unit.connection, slots[: len(due)])
            ids = [task.id for task in due]
            task_store.lease_poll(unit.connection, ids, now=unit.now, until=unit.now + self._lease)
        return due

    async def _poll(self, task: Task) -> None:
        if task.upstream_task_id is None:
            return
        report = await self._client.record_info(task.upstream_task_id)
        if isinstance(report, Unreadable):
            log = _log.warning if report.is_success and task.error is None else _log.debug
            log("poll_without_result", task_id=task.id, reason=report.reason)

        def decide(current: Task | None) -> Decision[Report | None]:
            return self._decide(current, report)

        until = self._clock.now() + self._lease
        if await self._work.record(lambda: self._writer.move(task.id, decide), until=until):
            _log.info("poll_result", task_id=task.id, result=type(report).__name__)

    def _decide(self, task: Task | None, report: Report) -> Decision[Report | None]:
        """Apply a report; the result is the report if it ended the task."""
        now = self._clock.now()
        if task is None or task.ask_at is None:
            return Decision(None)
        if transitions.names_another_task(task, report):
            return Decision(None, transitions.note_poll(task, now, self._policy))
        if isinstance(report, Succeeded | Failed):
            transition = transitions.conclude(task, report, now)
            return Decision(report if transition else None, transition)
        if isinstance(report, Generating) and not task.is_terminal:
            accepted = transitions.accept(task, task.upstream_task_id or "", now, self._policy)
            if accepted:
                return Decision(None, accepted)
        return Decision(None, transitions.note_poll(task, now, self._policy, report))

    def _expire(self, unit: UnitOfWork) -> int:
        overdue = task_store.overdue(unit.connection, now=unit.now, limit=_EXPIRED_PER_BATCH)
        if not overdue:
            return 0
        account = account_store.get(unit.connection)
        held_for = account.error if account.state is AccountState.HELD else None
        ends = [transitions.expire(task, unit.now, self._policy, held_for) for task in overdue]
        applied = [end for end in ends if end]
        unit.write(applied)
        for transition in applied:
            error = transition.task.error
            code, reason = (error.code.value, error.message) if error else (None, None)
            _log.warning("task_timed_out", task_id=transition.task.id, code=code, reason=reason)
        return len(applied)
