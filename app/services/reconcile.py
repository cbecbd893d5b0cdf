"""Looking after tasks that nobody calls back about: ask the upstream, give up in the end."""

import structlog

from app.clock import Clock
from app.db import account as account_row
from app.db import facts, rates
from app.db import tasks as task_rows
from app.domain import moves
from app.domain.account import AccountState
from app.domain.policy import Policy
from app.domain.task import Task
from app.domain.upstream import Upstream
from app.domain.verdict import Failed, Generating, Report, Succeeded, Unreadable
from app.services.unit import Decision, Unit
from app.services.writer import Writer

SCOPE = "ask"
"""The rate slots that questions take."""
QUESTIONS_PER_SECOND = 20
"""How many record-info calls all replicas together make at most in a second."""
_SECOND = 1_000
_EXPIRED_AT_ONCE = 200
_log = structlog.get_logger(__name__)


class Reconcile:
    """Asks about silent tasks and ends those past their deadline."""

    def __init__(self, *, writer: Writer, client: Upstream, clock: Clock, policy: Policy) -> None:
        self._writer = writer
        self._client = client
        self._clock = clock
        self._policy = policy

    async def claim(self, limit: int) -> list[Task]:
        """Pick up to `limit` tasks to ask about, and keep other replicas from asking about them meanwhile."""
        return await self._writer.run(lambda unit: self._claim(unit, limit))

    async def ask(self, task: Task) -> None:
        """Ask the upstream about a task and apply what it says."""
        if task.upstream_task_id is None:
            return
        report = await self._client.record_info(task.upstream_task_id)
        if isinstance(report, Unreadable):
            _log.debug("asked_in_vain", task_id=task.id, reason=report.reason)

        def decide(current: Task | None) -> Decision[Report | None]:
            return self._decide(current, report)

        if await self._writer.move(task.id, decide):
            _log.info("verdict", task_id=task.id, verdict=type(report).__name__, source="record-info")

    async def expire(self) -> int:
        """End tasks past their deadline; returns how many."""
        return await self._writer.run(self._expire)

    def _claim(self, unit: Unit, limit: int) -> list[Task]:
        now = facts.shared_now(unit.connection, unit.now)
        free = rates.find_free(unit.connection, SCOPE, slots=QUESTIONS_PER_SECOND, wanted=limit, now=now)
        due = task_rows.to_ask(unit.connection, now=unit.now, limit=len(free)) if free else []
        rates.occupy(unit.connection, SCOPE, free[: len(due)], now + _SECOND)
        if due:
            # If this process dies while it asks, somebody else asks after this.
            lease = unit.now + 2 * self._policy.upstream_timeout
            task_rows.lease_question(unit.connection, [task.id for task in due], now=unit.now, until=lease)
        return due

    def _decide(self, task: Task | None, report: Report) -> Decision[Report | None]:
        """Apply a report; the result is the report if it was a verdict that counted."""
        now = self._clock.now()
        if task is None or task.ask_at is None:
            return Decision(None)
        if moves.names_another_task(task, report):
            return Decision(None, moves.note_question(task, now, self._policy))
        if isinstance(report, Succeeded | Failed):
            step = moves.conclude(task, report, now)
            return Decision(report if step else None, step)
        if isinstance(report, Generating) and not task.is_terminal:
            accepted = moves.accept(task, task.upstream_task_id or "", now, self._policy)
            if accepted:
                return Decision(None, accepted)
        return Decision(None, moves.note_question(task, now, self._policy))

    def _expire(self, unit: Unit) -> int:
        overdue = task_rows.overdue(unit.connection, now=unit.now, limit=_EXPIRED_AT_ONCE)
        if not overdue:
            return 0
        account = account_row.get(unit.connection)
        held_for = account.error if account.state is AccountState.HELD else None
        steps = [moves.expire(task, unit.now, self._policy, held_for) for task in overdue]
        ended = [step for step in steps if step]
        unit.write(ended)
        for step in ended:
            code = step.task.error.code.value if step.task.error else None
            _log.warning("gave_up", task_id=step.task.id, error=code)
        return len(ended)
