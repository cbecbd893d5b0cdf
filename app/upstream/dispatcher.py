"""Sends queued tasks upstream: claim, send once, record the outcome."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from app.clock import Clock
from app.db import task_store
from app.db.engine import Database
from app.domain import transitions
from app.domain.policy import Policy
from app.domain.submit_outcome import Accepted, AccountRefused, Refused, SubmitOutcome, TryAgain
from app.domain.task import Status, Task
from app.upstream.account_gate import CHECK_AGAIN_MS, AccountGate
from app.upstream.call_window import CallWindow
from app.upstream.fair_queue import due_in_turn
from app.upstream.interface import Upstream
from app.upstream.rate_limit import SharedRateLimit, Slot
from app.writing.leased_work import LeasedWork
from app.writing.unit_of_work import Decision, UnitOfWork
from app.writing.wake_up import WakeUp
from app.writing.writer import Writer

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claimed task, its rate slot, and whether it probes.

    With `needs_check`, it is sent only after a check of the upstream.
    """

    task: Task
    slot: Slot | None
    is_probe: bool = False
    needs_check: bool = False


@dataclass(eq=False, kw_only=True)
class Dispatcher:
    """Claims and sends tasks.

    `callback_url` returns a task's callback URL. `wake_up` is woken when sending may continue. `concurrency` limits the
    submits in flight. A claim has no lease, because only the process that made it knows whether the task was sent.
    """

    database: Database
    writer: Writer
    client: Upstream
    clock: Clock
    policy: Policy
    rate_limit: SharedRateLimit | None
    callback_url: Callable[[str], str]
    wake_up: WakeUp
    concurrency: int = 16
    record_pause: float = 0.5
    timer: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._gate = AccountGate(policy=self.policy, wake_up=self.wake_up, timer=self.timer)
        self._window = CallWindow(self.concurrency, self.timer)
        self._work: LeasedWork[Claimed] = LeasedWork("submit", _key, clock=self.clock, pause_seconds=self.record_pause)
        self._random = random.Random()  # noqa: S311 -- spreads retries, guards nothing
        self._served_last = ""
        self._probed_last = ""

    async def claim(self, limit: int) -> list[Claimed]:
        """Claim up to `limit` tasks that may be sent now."""
        allowed = min(limit, self._window.room)
        if self._gate.is_closed or not allowed:
            return []
        claimed = await self._work.claim(self.writer.run(lambda unit: self._claim(unit, allowed)))
        self._window.begin(len(claimed))
        if claimed:
            self._served_last = claimed[-1].task.project
        if claimed and claimed[-1].is_probe:
            self._probed_last = claimed[-1].task.id
        return claimed

    async def send(self, claimed: Claimed) -> None:
        """Send a claimed task once, and record the outcome.

        Recording is retried as long as the database is down.
        """
        task = claimed.task
        outcome = await self._submit(claimed)
        _log.info("submitted", task_id=task.id, attempt=task.attempts, outcome=type(outcome).__name__)
        settle_account = partial(self._settle_account, claimed=claimed, outcome=outcome)
        record_account = partial(self._work.record, partial(self.writer.run, settle_account))
        record_task = partial(self._record_task, claimed, outcome)
        if not isinstance(outcome, Accepted | Refused):
            # The account comes first: if the task is requeued, its next claim must find the account updated.
            await record_task(counts=await record_account())
        elif claimed.slot is not None or claimed.is_probe or self._gate.has_seen_failures:
            # Recorded separately, so that a retry of one doesn't repeat the other.
            await asyncio.gather(record_account(), record_task())
        else:
            await record_task()
        # Not earlier: a sent task without a recorded outcome must never be mistaken for one that was not sent.
        self._work.done(claimed)

    async def release_lost(self) -> int:
        """Requeue tasks with unconfirmed claims; returns how many.

        A claim is unconfirmed if it was committed, but the connection broke before the reply. Only this process can
        tell that its task was not sent.
        """
        claims = await self.database.read(lambda connection: task_store.claimed_by(connection, self._work.owner))
        return sum([await self._release(*claim) for claim in await self._work.lost(claims)])

    def _claim(self, unit: UnitOfWork, limit: int) -> list[Claimed]:
        account, allowed = self._gate.allowance(unit, limit)
        slots = self._free_slots(unit, allowed) if allowed else []
        if not slots:
            return []
        if account.is_open:
            due = due_in_turn(unit.connection, after=self._served_last, now=unit.now, limit=len(slots))
        else:
            # Probe with one task after another, so that a task that is always refused doesn't block the queue.
            due = task_store.next_queued(unit.connection, after=self._probed_last, now=unit.now)
        claims = [transitions.claim(task, self._work.owner, unit.now, self.policy) for task in due]
        applied = [claim for claim in claims if claim]
        if not applied:
            return []
        unit.write(applied)
        slots = slots[: len(applied)]
        if self.rate_limit is not None:
            self.rate_limit.take(unit.connection, [slot for slot in slots if slot is not None])
        if not account.is_open:
            self._gate.begin_probe(unit, account)
        is_probe, needs_check = not account.is_open, account.needs_check
        return [Claimed(claim.task, slot, is_probe, needs_check) for claim, slot in zip(applied, slots, strict=True)]

    def _free_slots(self, unit: UnitOfWork, wanted: int) -> Sequence[Slot | None]:
        """Find rate slots for up to `wanted` tasks.

        Without a rate limit, each slot is None.
        """
        if self.rate_limit is None:
            return [None] * wanted
        slots = self.rate_limit.find_free(unit.connection, wanted, unit.now)
        if len(slots) < wanted:
            pause = self.rate_limit.next_free_in(unit.connection, unit.now)
            if pause is not None:
                unit.after.append(partial(self.wake_up.wake_after, pause / 1000))
            if not slots:
                unit.after.append(partial(self._gate.close, CHECK_AGAIN_MS if pause is None else pause))
        return slots

    async def _submit(self, claimed: Claimed) -> SubmitOutcome:
        """Send a task, after a check if needed."""
        outcome: SubmitOutcome | None = None
        began = self.timer()
        try:
            silence = await self.client.check() if claimed.needs_check else None
            if silence is not None:
                outcome = TryAgain(silence, pauses_account=True)
            else:
                task = claimed.task
                outcome = await self.client.submit(task.model, task.input, self.callback_url(task.id))
        finally:
            is_answer = isinstance(outcome, Accepted | Refused | AccountRefused)
            self._window.end(answered=is_answer, seconds=self.timer() - began)
        return outcome

    async def _record_task(self, claimed: Claimed, outcome: SubmitOutcome, *, counts: bool = False) -> None:
        task_id, attempt, jitter = claimed.task.id, claimed.task.attempts, self._random.random()

        def decide(task: Task | None) -> Decision[transitions.Transition | None]:
            if task is None:
                return Decision(None)
            now = self.clock.now()
            transition = transitions.settle_submit(task, attempt, outcome, now, self.policy, jitter, counts=counts)
            return Decision(transition, transition)

        transition = await self._work.record(lambda: self.writer.move(task_id, decide))
        if transition is not None and transition.task.status is Status.QUEUED:
            self.wake_up.wake_after(max(transition.task.not_before - self.clock.now(), 0) / 1000)

    def _settle_account(self, unit: UnitOfWork, claimed: Claimed, outcome: SubmitOutcome) -> bool:
        if claimed.slot is not None and self.rate_limit is not None:
            self.rate_limit.release(unit.connection, claimed.slot, unit.now)
        return self._gate.settle(unit, outcome, is_probe=claimed.is_probe)

    async def _release(self, task_id: str, attempt: int) -> bool:
        def decide(task: Task | None) -> Decision[bool]:
            if task is None or (task.claimed_by, task.attempts) != (self._work.owner, attempt):
                return Decision(result=False)
            transition = transitions.release(task, self.clock.now(), self.policy)
            return Decision(transition is not None, transition)

        return await self.writer.move(task_id, decide)


def _key(claimed: Claimed) -> tuple[str, int]:
    return claimed.task.id, claimed.task.attempts
