"""Sending queued tasks upstream: claim, send once, record what came of it."""

import asyncio
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest

import structlog

from app.clock import Clock
from app.db import account as account_row
from app.db import facts, rates
from app.db import tasks as task_rows
from app.db.engine import Database
from app.domain import moves
from app.domain.policy import Policy
from app.domain.submission import SubmitOutcome
from app.domain.task import Status, Task
from app.domain.upstream import Upstream
from app.errors import ServiceUnavailable
from app.services.bell import Bell
from app.services.unit import Decision, Unit
from app.services.writer import Writer

SCOPE = "submit"
"""The rate slots that submits take."""
# The upstream's clock and ours tick alike but round differently.
_WINDOW_MARGIN = 50
_RECORD_RETRY_SECONDS = 0.5
# Longer than any claim can be on its way to its commit.
_STRAY_AFTER = 60_000
_LOOK_AGAIN = 1_000
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A task in hand, and the rate slot it occupies (None without a limit)."""

    task: Task
    slot: int | None


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `count` calls in any window of `window` milliseconds."""

    count: int
    window: int


class Dispatch:
    """Claims and sends tasks.

    `callback_url` makes the address that the upstream is given for a task; `bell` is rung when sending may go on.
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
        bell: Bell,
    ) -> None:
        self._database = database
        self._writer = writer
        self._client = client
        self._clock = clock
        self._policy = policy
        self._rate_limit = rate_limit
        self._callback_url = callback_url
        self._bell = bell
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
        async with self._database.reading() as connection:
            claimed = await task_rows.claimed_by(connection, self._name, before=before)
        strays = [task_id for task_id in claimed if task_id not in self._in_hand]
        return sum([await self._release(task_id) for task_id in strays])

    async def _send(self, claimed: Claimed) -> None:
        task = claimed.task
        outcome = await self._client.submit(task.model, task.input, self._callback_url(task.id))
        _log.info("submitted", task_id=task.id, attempt=task.attempts, outcome=type(outcome).__name__)
        while True:
            try:
                await self._record(claimed, outcome)
            except ServiceUnavailable:
                # Forgetting an upstream id would turn a paid task into an unknown one.
                await asyncio.sleep(_RECORD_RETRY_SECONDS)
            else:
                return

    async def _release(self, task_id: str) -> bool:
        def decide(task: Task | None) -> Decision[bool]:
            step = moves.release(task, self._clock.now(), self._policy) if task else None
            return Decision(step is not None, step)

        return await self._writer.move(task_id, decide)

    async def _claim(self, unit: Unit, limit: int) -> list[Claimed]:
        account = await account_row.get(unit.connection)
        if not account.is_open:
            account = await account_row.get(unit.connection, lock=True)
        allowed = account.allowance(unit.now, limit)
        if not allowed:
            self._close(account.until - unit.now)
        due = await self._due(unit, allowed) if allowed else []
        if not due:
            return []
        slots = await self._take_slots(unit, len(due))
        if slots is not None:
            due = due[: len(slots)]
        steps = [step for step in (moves.claim(task, self._name, unit.now, self._policy) for task in due) if step]
        await unit.write(steps)
        if steps:
            self._served_last = steps[-1].task.project
            if not account.is_open:
                await account_row.save(unit.connection, account.with_probe(unit.now, self._policy))
        return [Claimed(step.task, slots[i] if slots is not None else None) for i, step in enumerate(steps)]

    async def _due(self, unit: Unit, limit: int) -> list[Task]:
        """Take the oldest due task of each project in turn, going on after the project served last."""
        projects = await task_rows.queued_projects(unit.connection)
        in_turn = [p for p in projects if p > self._served_last] + [p for p in projects if p <= self._served_last]
        lines = [await task_rows.claimable(unit.connection, p, now=unit.now, limit=limit) for p in in_turn]
        taken = [task for rank in zip_longest(*lines) for task in rank if task is not None]
        return taken[:limit]

    async def _take_slots(self, unit: Unit, wanted: int) -> list[int] | None:
        """Take rate slots; None without a limit.

        A slot stays taken until a full window after the upstream's reply, so two calls that use the same slot
        arrive there at least a window apart, however long each was on its way. Until the reply is recorded, the
        longest possible call is assumed: that also covers a crash.
        """
        if self._rate_limit is None:
            return None
        now = await facts.shared_now(unit.connection, unit.now)
        until = now + self._policy.upstream_timeout + self._rate_limit.window + _WINDOW_MARGIN
        count = self._rate_limit.count
        taken = await rates.take(unit.connection, SCOPE, slots=count, wanted=wanted, now=now, until=until)
        if len(taken) < wanted:
            next_free = await rates.next_free(unit.connection, SCOPE, count)
            self._close(next_free - now if next_free is not None else _LOOK_AGAIN)
        return taken

    def _close(self, milliseconds: int) -> None:
        """Look no more for a while; not for long at once, as others may free what we wait for earlier."""
        pause = min(max(milliseconds, 1), _LOOK_AGAIN)
        self._closed_until = self._clock.now() + pause
        self._bell.ring_after(pause / 1000)

    async def _record(self, claimed: Claimed, outcome: SubmitOutcome) -> None:
        jitter = self._random.random()

        def decide(task: Task | None) -> Decision[moves.Step | None]:
            now = self._clock.now()
            step = moves.settle_submit(task, outcome, now, self._policy, jitter) if task else None
            return Decision(step, step)

        step, _ = await asyncio.gather(
            self._writer.move(claimed.task.id, decide),
            self._writer.run(lambda unit: self._settle_account(unit, claimed.slot, outcome)),
        )
        if step is not None and step.task.status is Status.QUEUED:
            self._bell.ring_after(max(step.task.not_before - self._clock.now(), 0) / 1000)

    async def _settle_account(self, unit: Unit, slot: int | None, outcome: SubmitOutcome) -> None:
        """Free the slot a window from now, and note what the outcome says about the account."""
        if slot is not None and self._rate_limit is not None:
            now = await facts.shared_now(unit.connection, unit.now)
            await rates.release(unit.connection, SCOPE, [slot], now + self._rate_limit.window + _WINDOW_MARGIN)
        before = await account_row.get(unit.connection)
        if before.after(outcome, unit.now, self._policy) == before:
            return
        before = await account_row.get(unit.connection, lock=True)
        after = before.after(outcome, unit.now, self._policy)
        await account_row.save(unit.connection, after)
        if after.state is not before.state:
            _log.warning("account", state=after.state.value, reason=after.error.message if after.error else None)
        if after.is_open:
            self._closed_until = 0
            self._bell.ring()
        else:
            self._close(after.until - unit.now)
