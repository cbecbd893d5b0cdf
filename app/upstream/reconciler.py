"""Polls about tasks without a callback, and ends overdue ones."""

import time
from collections.abc import Callable

import structlog

from app.clock import Clock
from app.db import account_store, task_store
from app.domain import transitions
from app.domain.policy import Policy
from app.domain.task import Task
from app.domain.verdict import Failed, Generating, Report, Succeeded, Unanswered, Unreadable
from app.upstream.interface import Upstream
from app.upstream.poll_pace import PollPace
from app.writing.leased_work import LeasedWork
from app.writing.unit_of_work import Decision, UnitOfWork
from app.writing.writer import Writer

_EXPIRED_PER_BATCH = 200
# Overdue tasks are ended once a second. After a longer gap (a start, an outage, a change of the clock), tasks first get
# time for the polls that could not be made.
_GAP_MS = 10_000
_log = structlog.get_logger(__name__)


class Reconciler:
    """Polls about unfinished tasks and ends those past their deadline."""

    def __init__(
        self,
        *,
        writer: Writer,
        client: Upstream,
        clock: Clock,
        policy: Policy,
        record_pause: float = 0.5,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._writer = writer
        self._client = client
        self._clock = clock
        self._policy = policy
        self._lease = 2 * policy.upstream_timeout
        self._pace = PollPace(policy, timer)
        self._expired_at, self._expiring_since = 0, 0
        self._work: LeasedWork[Task] = LeasedWork(
            "poll", lambda task: (task.id, task.ask_at or 0), clock=clock, pause_seconds=record_pause
        )

    async def claim(self, limit: int) -> list[Task]:
        """Claim up to `limit` tasks to poll about."""
        allowed = min(limit, self._pace.allowance)
        if not allowed:
            return []
        claimed = await self._work.claim(self._writer.run(lambda unit: self._claim(unit, allowed)))
        if claimed:
            self._pace.begin(len(claimed), (self._clock.now() - (claimed[0].ask_at or 0)) / 1000)
        return claimed

    async def poll(self, task: Task) -> None:
        """Poll about a claimed task and apply the report.

        If canceled, another process may poll once the lease has expired.
        """
        await self._work.run(task, self._poll(task))

    async def expire(self) -> int:
        """End tasks past their deadline; returns how many."""
        return await self._writer.run(self._expire)

    def _claim(self, unit: UnitOfWork, limit: int) -> list[Task]:
        due = task_store.to_poll(unit.connection, now=unit.now, limit=limit)
        if due:
            ids = [task.id for task in due]
            task_store.lease_poll(unit.connection, ids, now=unit.now, until=unit.now + self._lease)
        return due

    async def _poll(self, task: Task) -> None:
        report: Report | Unanswered | None = None
        try:
            if task.upstream_task_id is not None:
                report = await self._client.record_info(task.upstream_task_id)
        finally:
            self._pace.end(report)
        if report is None:
            return
        if isinstance(report, Unreadable | Unanswered):
            is_result = isinstance(report, Unreadable) and report.is_success and task.error is None
            log = _log.warning if is_result else _log.debug
            log("poll_without_result", task_id=task.id, reason=report.reason)

        def decide(current: Task | None) -> Decision[Report | None]:
            return self._decide(current, report)

        until = self._clock.now() + self._lease
        if await self._work.record(lambda: self._writer.move(task.id, decide), until=until):
            _log.info("poll_result", task_id=task.id, result=type(report).__name__)

    def _decide(self, task: Task | None, report: Report | Unanswered) -> Decision[Report | None]:
        """Apply a report; return it if it ended the task."""
        now = self._clock.now()
        if task is None or task.ask_at is None:
            return Decision(None)
        if isinstance(report, Unanswered) or transitions.names_another_task(task, report):
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
        limits = {"now": unit.now, "unpolled_before": self._unpolled_before(unit.now)}
        overdue = task_store.overdue(unit.connection, **limits, limit=_EXPIRED_PER_BATCH)
        if not overdue:
            return 0
        blocked_by = account_store.get(unit.connection).error
        ends = [transitions.expire(task, policy=self._policy, account_error=blocked_by, **limits) for task in overdue]
        applied = [end for end in ends if end]
        unit.write(applied)
        for transition in applied:
            error = transition.task.error
            code, reason = (error.code.value, error.message) if error else (None, None)
            _log.warning("task_timed_out", task_id=transition.task.id, code=code, reason=reason)
        return len(applied)

    def _unpolled_before(self, now: int) -> int:
        """Return up to which deadline no last poll is needed."""
        if not 0 <= now - self._expired_at <= _GAP_MS:
            self._expiring_since = now
        self._expired_at = now
        before = now - self._policy.upstream_timeout
        return before if self._expiring_since <= before else 0
