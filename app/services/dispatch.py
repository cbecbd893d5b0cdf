"""Sending queued tasks upstream: claim, send once, record what came of it."""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

import structlog

from app.clock import Clock
from app.db import account as account_row
from app.db import facts, rates
from app.db import tasks as task_rows
from app.db.engine import Database
from app.domain import moves
from app.domain.policy import Policy
from app.domain.submission import Accepted, Refused, SubmitOutcome
from app.domain.task import Status, Task
from app.domain.upstream import Upstream
from app.errors import ServiceUnavailable
from app.services.unit import Decision, Unit
from app.services.writer import Writer
from app.writing.wake_up import WakeUp

SCOPE = "submit"
"""The rate slots that submits take."""
# The upstream's clock and ours tick alike but round differently.
_WINDOW_MARGIN = 50
_MAX_RECORD_PAUSE_SECONDS = 10.0
# Longer than any claim can be on its way to its commit.
_STRAY_AFTER = 60_000
_LOOK_AGAIN = 1_000
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Slot:
    """A rate slot that a task in hand occupies, until that time at the longest."""

    number: int
    held_until: int


@dataclass(frozen=True, slots=True)
class Claimed:
    """A task in hand, its rate slot (None without a limit), and whether it probes an account that is not open."""

    task: Task
    slot: Slot | None
    is_probe: bool = False


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `count` calls in any window of `window` milliseconds."""

    count: int
    window: int

    def longest(self, policy: Policy) -> int:
        """For how long, in milliseconds, a call can occupy a slot: all that it may take, and a window."""
        return policy.upstream_timeout + self.window + _WINDOW_MARGIN


class Dispatch:
    """Claims and sends tasks.

    `callback_url` makes the address that the upstream is given for a task; `wake_up` wakes when sending may go on.
    `record_pause` is how many seconds to wait before an outcome that could not be recorded is written again.
    """

    def __init__(
        self,
        *,
        database: Database,
        writer: Writer,
        client: Upstream,
        clock: Clock,
        policy: Policy,
        rate_limit: RateLimit | None,
        callback_url: Callable[[str], str],
        wake_up: WakeUp,
        record_pause: float = 0.5,
    ) -> None:
        self._database = database
        self._writer = writer
        self._client = client
        self._clock = clock
        self._policy = policy
        self._rate_limit = rate_limit
        self._callback_url = callback_url
        self._wake_up = wake_up
        self._record_pause = record_pause
        self._random = random.Random()  # noqa: S311 -- spreads retries, guards nothing
        self._served_last = ""
        self._name = secrets.token_hex(8)
        """Names this process in the claims it makes."""
        self._in_hand: set[str] = set()
        self._closed_until = 0
        """Until when claiming is known to be in vain: a burst of submits must not become a burst of looks."""

    async def claim(self, limit: int) -> list[Claimed]:
        """Claim up to `limit` tasks that may be sent right now: due, within the rate limit, the account willing."""
        if self._clock.now() < self._closed_until:
            return []
        claimed = await self._writer.run(lambda unit: self._claim(unit, limit))
        self._in_hand.update(one.task.id for one in claimed)
        if claimed:
            self._served_last = claimed[-1].task.project
        return claimed

    async def send(self, claimed: Claimed) -> None:
        """Send a claimed task, once, and record the outcome, however long the database takes to come back."""
        await self._send(claimed)
        # Only now: a task whose outcome is not recorded must never look like one that was not sent.
        self._in_hand.discard(claimed.task.id)

    async def release_strays(self) -> int:
        """Put back tasks that this process claimed without ever getting them in hand; returns how many.

        That happens when the database takes a claim and the connection breaks before it says so. Nobody else can
        tell such a claim from one that was sent; this process knows all that it has sent.
        """
        before = self._clock.now() - _STRAY_AFTER
        claimed = await self._database.read(
            lambda connection: task_rows.claimed_by(connection, self._name, before=before)
        )
        strays = [task_id for task_id in claimed if task_id not in self._in_hand]
        return sum([await self._release(task_id) for task_id in strays])

    async def _send(self, claimed: Claimed) -> None:
        task = claimed.task
        outcome = await self._client.submit(task.model, task.input, self._callback_url(task.id))
        _log.info("submitted", task_id=task.id, attempt=task.attempts, outcome=type(outcome).__name__)
        # Recorded apart from each other, so that trying one again does not do the other twice.
        records = [self._record(lambda: self._settle_task(claimed, outcome))]
        if claimed.slot is not None or claimed.is_probe or not isinstance(outcome, Accepted | Refused):
            work = partial(self._settle_account, slot=claimed.slot, outcome=outcome)
            # Before the task, which may be queued again: whoever claims it must find the account as the outcome left it.
            records.insert(0, self._record(lambda: self._writer.run(work)))
        await asyncio.gather(*records)

    async def _record(self, write: Callable[[], Awaitable[None]]) -> None:
        """Write until it is written: forgetting an upstream id would turn a paid task into an unknown one."""
        pause = self._record_pause
        while True:
            try:
                await write()
            except ServiceUnavailable:
                await asyncio.sleep(self._record_pause)
            except Exception:  # noqa: BLE001 -- logged; whatever is wrong, giving up would lose what was paid for
                _log.exception("outcome_not_recorded")
                await asyncio.sleep(pause)
                pause = min(pause * 2, _MAX_RECORD_PAUSE_SECONDS)
            else:
                return

    async def _settle_task(self, claimed: Claimed, outcome: SubmitOutcome) -> None:
        attempt, jitter = claimed.task.attempts, self._random.random()

        def decide(task: Task | None) -> Decision[moves.Step | None]:
            now = self._clock.now()
            step = moves.settle_submit(task, attempt, outcome, now, self._policy, jitter) if task else None
            return Decision(step, step)

        def in_turn(unit: Unit) -> moves.Step | None:
            step = decide(task_rows.lock(unit.connection, [claimed.task.id]).get(claimed.task.id)).step
            unit.write([step] if step else [])
            return step

        if isinstance(outcome, Accepted | Refused):
            step = await self._writer.move(claimed.task.id, decide)
        else:
            # A move overtakes what waits in the same batch: a claim would find the task before the account is settled.
            step = await self._writer.run(in_turn, locking=claimed.task.id)
        if step is not None and step.task.status is Status.QUEUED:
            self._wake_up.wake_after(max(step.task.not_before - self._clock.now(), 0) / 1000)

    async def _release(self, task_id: str) -> bool:
        def decide(task: Task | None) -> Decision[bool]:
            is_stray = task is not None and task.claimed_by == self._name and task_id not in self._in_hand
            step = moves.release(task, self._clock.now(), self._policy) if task and is_stray else None
            return Decision(step is not None, step)

        return await self._writer.move(task_id, decide)

    def _claim(self, unit: Unit, limit: int) -> list[Claimed]:
        account = account_row.get(unit.connection)
        if not account.is_open:
            account = account_row.get(unit.connection, lock=True)
        allowed = account.allowance(unit.now, limit)
        if not allowed:
            unit.after.append(partial(self._close, account.until - unit.now))
        slots = self._free_slots(unit, allowed)
        due = self._due(unit, len(slots)) if slots else []
        steps = [step for step in (moves.claim(task, self._name, unit.now, self._policy) for task in due) if step]
        if not steps:
            return []
        unit.write(steps)
        used = slots[: len(steps)]
        self._occupy(unit, [slot for slot in used if slot is not None])
        if not account.is_open:
            account_row.save(unit.connection, account.with_probe(unit.now, self._policy))
        return [Claimed(step.task, slot, not account.is_open) for step, slot in zip(steps, used, strict=True)]

    def _due(self, unit: Unit, limit: int) -> list[Task]:
        """Take the oldest due task of each project in turn, going on after the project served last."""
        projects = task_rows.queued_projects(unit.connection)
        in_turn = [p for p in projects if p > self._served_last] + [p for p in projects if p <= self._served_last]
        share = -(-limit // max(len(projects), 1))
        lines: dict[str, list[Task]] = {}
        for project in in_turn:
            if sum(map(len, lines.values())) < limit:
                lines[project] = task_rows.claimable(unit.connection, project, now=unit.now, limit=share)
        # If some had less than their share, others may have more than theirs.
        for project, line in lines.items():
            if sum(map(len, lines.values())) < limit and len(line) == share:
                lines[project] = task_rows.claimable(unit.connection, project, now=unit.now, limit=limit)
        taken = [task for rank in zip_longest(*lines.values()) for task in rank if task is not None]
        return taken[:limit]

    def _free_slots(self, unit: Unit, wanted: int) -> Sequence[Slot | None]:
        """Find rate slots for as many tasks as may be sent now; None stands for a slot where there is no limit.

        A slot stays taken until a full window after the upstream's reply, so two calls that use the same slot
        arrive there at least a window apart, however long each was on its way. Until the reply is recorded, the
        longest possible call is assumed: that also covers a crash.
        """
        limit = self._rate_limit
        if limit is None or not wanted:
            return [None] * wanted
        now = facts.shared_now(unit.connection, unit.now)
        numbers = rates.find_free(unit.connection, SCOPE, slots=limit.count, wanted=wanted, now=now)
        if len(numbers) < wanted:
            next_free = rates.next_free(unit.connection, SCOPE, limit.count, after=now)
            if next_free is not None:
                unit.after.append(partial(self._wake_up.wake_after, (next_free - now) / 1000))
            if not numbers:
                unit.after.append(partial(self._close, next_free - now if next_free is not None else _LOOK_AGAIN))
        return [Slot(number, now + limit.longest(self._policy)) for number in numbers]

    def _occupy(self, unit: Unit, slots: Sequence[Slot]) -> None:
        if slots:
            rates.occupy(unit.connection, SCOPE, [slot.number for slot in slots], slots[0].held_until)

    def _close(self, milliseconds: int) -> None:
        """Look no more for a while; not for long at once, as others may free what we wait for earlier."""
        pause = min(max(milliseconds, 1), _LOOK_AGAIN)
        self._closed_until = self._clock.now() + pause
        self._wake_up.wake_after(pause / 1000)

    def _settle_account(self, unit: Unit, slot: Slot | None, outcome: SubmitOutcome) -> None:
        """Free the slot a window from now, and note what the outcome says about the account."""
        if slot is not None and self._rate_limit is not None:
            now = facts.shared_now(unit.connection, unit.now)
            free_at = now + self._rate_limit.window + _WINDOW_MARGIN
            rates.release(unit.connection, SCOPE, slot.number, held_until=slot.held_until, free_at=free_at)
        before = account_row.get(unit.connection)
        if before.after(outcome, unit.now, self._policy) == before:
            return
        before = account_row.get(unit.connection, lock=True)
        after = before.after(outcome, unit.now, self._policy)
        account_row.save(unit.connection, after)
        if after.state is not before.state:
            _log.warning("account", state=after.state.value, reason=after.error.message if after.error else None)
        unit.after.append(self._open if after.is_open else partial(self._close, after.until - unit.now))

    def _open(self) -> None:
        self._closed_until = 0
        self._wake_up.wake()
