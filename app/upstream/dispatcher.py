"""Sends queued tasks upstream: claim, send once, record the outcome."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import structlog

from app.clock import Clock
from app.db import task_store
from app.db.engine import Database
from app.domain import transitions
from app.domain.policy import Policy
from app.domain.submit_outcome import Accepted, Refused, SubmitOutcome
from app.domain.task import Status, Task
from app.upstream.account_gate import CHECK_AGAIN_MS, AccountGate
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
    """A claimed task, its rate slot (None without a limit), and whether it is a probe."""

    task: Task
    slot: Slot | None
    is_probe: bool = False


@dataclass(eq=False, kw_only=True)
class Dispatcher:
    """Claims and sends tasks.

    `callback_url` returns a task's callback URL. `wake_up` wakes when sending may continue. A claim has no lease: only
    the process that made it knows whether the task was sent.
    """

    database: Database
    writer: Writer
    client: Upstream
    clock: Clock
    policy: Policy
    rate_limit: SharedRateLimit | None
    callback_url: Callable[[str], str]
    wake_up: WakeUp
    record_pause: float = 0.5

    def __post_init__(self) -> None:
        self._gate = AccountGate(clock=self.clock, policy=self.policy, wake_up=self.wake_up)
        self._work: LeasedWork[Claimed] = LeasedWork("submit", _key, clock=self.clock, pause_seconds=self.record_pause)
        self._random = random.Random()  # noqa: S311 -- spreads retries, guards nothing
        self._served_last = ""

    async def claim(self, limit: int) -> list[Claimed]:
        """Claim up to `limit` due tasks that rate limit and account allow to be sent now."""
        if self._gate.is_closed:
            return []
        claimed = await self._work.claim(self.writer.run(lambda unit: self._claim(unit, limit)))
        if claimed:
            self._served_last = claimed[-1].task.project
        return claimed

    async def send(self, claimed: Claimed) -> None:
        """Send a claimed task once, and record the outcome, however long the database is down."""
        task = claimed.task
        outcome = await self.client.submit(task.model, task.input, self.callback_url(task.id))
        _log.info("submitted", task_id=task.id, attempt=task.attempts, outcome=type(outcome).__name__)
        # Recorded separately, so that a retry of one doesn't repeat the other.
        records = [self._work.record(lambda: self._settle_task(claimed, outcome))]
        if claimed.slot is not None or claimed.is_probe or not isinstance(outcome, Accepted | Refused):
            settle_account = partial(self._settle_account, slot=claimed.slot, outcome=outcome)
            # Before the task, which may be requeued: its next claim must find the account updated.
            records.insert(0, self._work.record(lambda: self.writer.run(settle_account)))
        await asyncio.gather(*records)
        # Only now: a task whose outcome is not recorded must never be mistaken for one that was not sent.
        self._work.done(claimed)

    async def release_lost(self) -> int:
        """Requeue tasks whose claim was committed without a confirmation; returns how many.

        That happens when the connection breaks during the commit. Only this process can distinguish such a claim from
        one that was sent.
        """
        claims = await self.database.read(lambda connection: task_store.claimed_by(connection, self._work.owner))
        return sum([await self._release(*claim) for claim in await self._work.lost(claims)])

    def _claim(self, unit: UnitOfWork, limit: int) -> list[Claimed]:
        account, allowed = self._gate.allowance(unit, limit)
        slots = self._free_slots(unit, allowed) if allowed else []
        if not slots:
            return []
        due = due_in_turn(unit.connection, after=self._served_last, now=unit.now, limit=len(slots))
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
        return [Claimed(claim.task, slot, not account.is_open) for claim, slot in zip(applied, slots, strict=True)]

    def _free_slots(self, unit: UnitOfWork, wanted: int) -> Sequence[Slot | None]:
        """Find a rate slot for each task that may be sent now; None for each without a limit."""
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

    async def _settle_task(self, claimed: Claimed, outcome: SubmitOutcome) -> None:
        task_id, attempt, jitter = claimed.task.id, claimed.task.attempts, self._random.random()

        def decide(task: Task | None) -> Decision[transitions.Transition | None]:
            now = self.clock.now()
            transition = transitions.settle_submit(task, attempt, outcome, now, self.policy, jitter) if task else None
            return Decision(transition, transition)

        def in_turn(unit: UnitOfWork) -> transitions.Transition | None:
            transition = decide(task_store.lock(unit.connection, [task_id]).get(task_id)).transition
            unit.write([transition] if transition else [])
            return transition

        if isinstance(outcome, Accepted | Refused):
            transition = await self.writer.move(task_id, decide)
        else:
            # Unlike `move`, in the order of the batch: the account must be settled before a claim finds the task queued.
            transition = await self.writer.run(in_turn, locking=task_id)
        if transition is not None and transition.task.status is Status.QUEUED:
            self.wake_up.wake_after(max(transition.task.not_before - self.clock.now(), 0) / 1000)

    def _settle_account(self, unit: UnitOfWork, slot: Slot | None, outcome: SubmitOutcome) -> None:
        if slot is not None and self.rate_limit is not None:
            self.rate_limit.release(unit.connection, slot, unit.now)
        self._gate.settle(unit, outcome)

    async def _release(self, task_id: str, attempt: int) -> bool:
        def decide(task: Task | None) -> Decision[bool]:
            if task is None or (task.claimed_by, task.attempts) != (self._work.owner, attempt):
                return Decision(result=False)
            transition = transitions.release(task, self.clock.now(), self.policy)
            return Decision(transition is not None, transition)

        return await self.writer.move(task_id, decide)


def _key(claimed: Claimed) -> tuple[str, int]:
    return claimed.task.id, claimed.task.attempts
