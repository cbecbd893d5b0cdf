"""Receives callbacks from the upstream."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import structlog

from app.clock import Clock
from app.domain import transitions
from app.domain.callback import CallbackTokens, ReceivedCallback
from app.domain.policy import Policy
from app.domain.task import Task
from app.domain.verdict import Generating, Report, Unreadable
from app.errors import GatewayError, TaskMismatch, UnknownCallback, UnreadableCallback
from app.upstream.bodies import MAX_BODY_BYTES, unpack
from app.upstream.reports import read_callback
from app.upstream.scrub import Scrubber
from app.writing.unit_of_work import Decision
from app.writing.wake_up import WakeUp
from app.writing.writer import Writer

_TOO_LARGE = f"The decompressed body exceeds {MAX_BODY_BYTES} bytes."
_log = structlog.get_logger(__name__)


class CallbackOutcome(StrEnum):
    """The outcome of a callback, as reported to the upstream."""

    RECEIVED = "received"
    DUPLICATE = "duplicate"
    MISMATCH = "task_mismatch"
    UNREADABLE = "unreadable_callback"


_REFUSALS: dict[CallbackOutcome, Callable[[str], GatewayError]] = {
    CallbackOutcome.MISMATCH: TaskMismatch,
    CallbackOutcome.UNREADABLE: UnreadableCallback,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackService:
    """Applies callbacks to tasks; unreadable ones wake `poll_due`."""

    writer: Writer
    tokens: CallbackTokens
    clock: Clock
    policy: Policy
    poll_due: WakeUp
    scrubber: Scrubber

    def check_token(self, token: str) -> str:
        """Return a callback URL's task id; raises `UnknownCallback`."""
        task_id = self.tokens.verify(token)
        if task_id is None:
            raise UnknownCallback("Unknown callback URL.")
        return task_id

    async def receive(
        self, task_id: str, body: bytes, *, content_type: str = "", content_encoding: str = ""
    ) -> CallbackOutcome:
        """Apply a callback and commit; returns `RECEIVED` or `DUPLICATE`.

        Raises `UnknownCallback` if the task was deleted, `TaskMismatch` or `UnreadableCallback` with the body stored.
        """
        # Stored decompressed, so that it is readable and our key is removed.
        plain = unpack(body, content_encoding)
        report = Unreadable(_TOO_LARGE) if plain is None else self.scrubber.report(read_callback(plain, content_type))
        kept = body if plain is None else self.scrubber.raw(plain)
        now = self.clock.now()

        def decide(task: Task | None) -> Decision[tuple[CallbackOutcome, bool]]:
            if task is None:
                raise UnknownCallback("The task of this callback URL was deleted.")
            answer, transition = self._judge(task, report, now)
            refusal = _REFUSALS.get(answer)
            status = refusal("").status if refusal else 200
            return Decision(
                (answer, transition is not None), transition, ReceivedCallback(task.id, now, status, answer.value, kept)
            )

        answer, has_moved = await self.writer.move(task_id, decide)
        _log.info("callback", task_id=task_id, answer=answer.value, report=type(report).__name__)
        if answer is CallbackOutcome.UNREADABLE:
            self.poll_due.wake()
            reason = report.reason if isinstance(report, Unreadable) else ""
            _log.warning("callback_unreadable", task_id=task_id, reason=reason)
            polled = " and the upstream is polled" if has_moved else ""
            raise UnreadableCallback(f"{reason} The body was stored{polled}.")
        if answer is CallbackOutcome.MISMATCH:
            raise TaskMismatch("The body names a different upstream task than this callback URL.")
        return answer

    def _judge(self, task: Task, report: Report, now: int) -> tuple[CallbackOutcome, transitions.Transition | None]:
        if task.is_final:
            return CallbackOutcome.DUPLICATE, None
        if isinstance(report, Unreadable):
            return CallbackOutcome.UNREADABLE, transitions.note_unreadable(task, report, now, self.policy)
        if transitions.names_another_task(task, report):
            return CallbackOutcome.MISMATCH, None
        if isinstance(report, Generating):
            # This proves that the upstream has the task, even if the reply to our submit was lost.
            upstream_id = report.upstream_task_id
            return CallbackOutcome.RECEIVED, transitions.accept(
                task, upstream_id, now, self.policy
            ) if upstream_id else None
        return CallbackOutcome.RECEIVED, transitions.conclude(task, report, now)
