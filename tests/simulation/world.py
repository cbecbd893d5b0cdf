"""The real services on a real database.

The simulation controls the clock, the vendor and the power plug.
"""

import asyncio
import json
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, TypeVar

from app.db.engine import Database, Work
from app.db.engine.sqlite import open_engine
from app.domain.callback import CallbackTokens
from app.domain.caller import Caller
from app.domain.idempotency import LIFETIME_MS
from app.domain.models import Model
from app.domain.policy import Policy
from app.domain.submission import Submission
from app.domain.verdict import Failed, Succeeded
from app.errors import GatewayError, ServiceUnavailable, TaskGone
from app.tasks.service import TaskService
from app.upstream.callbacks import CallbackOutcome, CallbackService
from app.upstream.dispatcher import Claimed, Dispatcher
from app.upstream.reconciler import Reconciler
from app.upstream.scrub import Scrubber
from app.writing.clock_repair import ClockRepair
from app.writing.wake_up import WakeUp
from app.writing.writer import Writer
from tests.simulation.books import Books
from tests.simulation.vendor import AMBIGUOUS, Fate, Order, SimulatedVendor
from tests.support.clock import HandClock

T = TypeVar("T")
CALLER = Caller("default")
POLICY = Policy(
    queue_timeout=3_600_000,
    task_timeout=900_000,
    poll_after=60_000,
    submit_tries=3,
    hold_retry=60_000,
    upstream_timeout=30_000,
)
WEBHOOK_URL = "https://receiver.example/hook"


class Plug(Enum):
    """When the power fails."""

    BEFORE_COMMIT = auto()
    AFTER_COMMIT = auto()
    LOST_ANSWER = auto()  # committed, but the connection breaks before the reply; the process survives


class PluggedDatabase(Database):
    """A database whose process can die before or after commits.

    Statements run without a thread, because a million steps would each wait for another thread.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._file = open_engine(url, "BEGIN IMMEDIATE", {})
        self.power_on()

    def power_on(self) -> None:
        """Forget the last power cut."""
        self.pull: Plug | None = None
        self.is_dark = asyncio.Event()

    async def read(self, work: Work[T]) -> T:
        """Run work in a transaction."""
        with self._file.begin() as connection:
            return work(connection)

    async def write(self, work: Work[T]) -> T:
        """Run work in a transaction, unless the power fails."""
        pull, self.pull = self.pull, None
        with self._file.connect() as connection:
            result = work(connection)
            if pull is not Plug.BEFORE_COMMIT:
                connection.commit()
        if pull in {Plug.BEFORE_COMMIT, Plug.AFTER_COMMIT}:
            await self.go_dark()
        if pull is Plug.LOST_ANSWER:
            raise ServiceUnavailable("The connection broke.")
        return result

    async def aclose(self) -> None:
        """Close the file."""
        self._file.dispose()
        await super().aclose()

    async def go_dark(self) -> None:
        """Stop the process here, forever."""
        self.is_dark.set()
        await asyncio.get_running_loop().create_future()


@dataclass
class World:
    """Everything that survives a crash.

    The database, the vendor, the clock, and what clients and the vendor know.
    """

    database: PluggedDatabase
    books: Books
    clock: HandClock = field(default_factory=HandClock)
    tokens: CallbackTokens = field(default_factory=lambda: CallbackTokens(["simulated"]))
    accepted: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    perhaps_deleted: set[str] = field(default_factory=set)
    uncertain: set[str] = field(default_factory=set)
    """Tasks with an indeterminate submit, or whose claim died with its process."""
    first_verdict: dict[str, Succeeded | Failed] = field(default_factory=dict)
    """The first acknowledged verdict, by task."""
    keys: dict[str, tuple[str, int]] = field(default_factory=dict)
    """The task of each idempotency key, and when the client learned of it."""
    crashes: int = 0

    def __post_init__(self) -> None:
        self.vendor = SimulatedVendor(self.tokens, before_reply=self._before_reply)
        self.early: str | None = None

    async def boot(self) -> None:
        """Start a process."""
        self.database.power_on()
        self.writer = Writer(self.database, self.clock, lambda _: None)
        parts: dict[str, Any] = {"writer": self.writer, "clock": self.clock, "policy": POLICY}
        self.dispatch = Dispatcher(
            **parts,
            database=self.database,
            client=self.vendor,
            rate_limit=None,
            callback_url=lambda task_id: f"http://gateway/{self.tokens.sign(task_id)}",
            wake_up=WakeUp(),
            record_pause=0,
            timer=self.clock.timer,
        )
        self.reconcile = Reconciler(**parts, client=self.vendor, record_pause=0, timer=self.clock.timer)
        self.repair = ClockRepair(**parts, webhook_pauses=[60_000], timer=self.clock.timer)
        self.callbacks = CallbackService(**parts, tokens=self.tokens, scrubber=Scrubber(""), poll_due=WakeUp())
        self.tasks = TaskService(**parts, database=self.database)
        self.in_hand: list[Claimed] = []
        self.writer.start()
        await self.repair.run_once()

    async def power_off(self) -> None:
        """Kill the process without finishing anything."""
        self.crashes += 1
        self.uncertain.update(claimed.task.id for claimed in self.in_hand)
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.database.aclose()

    async def shut_down(self) -> None:
        """Stop the process gracefully."""
        await self.writer.aclose()
        await self.database.aclose()

    async def do(self, work: Coroutine[Any, Any, T]) -> T | None:
        """Run work in the process; None if it died.

        After a death, a new process is started.
        """
        doing = asyncio.ensure_future(work)
        dark = asyncio.ensure_future(self.database.is_dark.wait())
        await asyncio.wait({doing, dark}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            await self.power_off()
            await self.boot()
            return None
        dark.cancel()
        return doing.result()

    # What clients do

    async def submit(self, key: str | None) -> None:
        submission = Submission(
            model=Model.NANO_BANANA,
            input={"prompt": "x", "image_urls": []},
            metadata={},
            # Only some have a webhook. It depends on the key, because a key's request must not change.
            webhook_url=WEBHOOK_URL if key != "a" else None,
        )
        try:
            answer = await self.do(self.tasks.submit(CALLER, submission, key))
        except TaskGone:
            first, _ = self.keys[key or ""]
            assert first in self.deleted | self.perhaps_deleted, "gone, but never deleted"
            return
        except ServiceUnavailable:
            return
        if answer is None:
            return
        task_id = answer[0].task.id
        self.accepted.add(task_id)
        if key is not None:
            first, at = self.keys.get(key, (task_id, self.clock.time))
            if self.clock.time - at >= LIFETIME_MS:
                first, at = task_id, self.clock.time
            assert first == task_id, "one key, two tasks"
            self.keys[key] = (first, at)

    async def ask_for(self, task_id: str, verb: str) -> None:
        try:
            if verb == "delete":
                if await self.do(self._delete(task_id)) is None:
                    # The process died, perhaps after the commit.
                    self.perhaps_deleted.add(task_id)
            elif verb == "cancel":
                await self.do(self.tasks.cancel(CALLER, task_id))
            else:
                answer = await self.do(self.tasks.retry(CALLER, task_id))
                if answer is not None:
                    self.accepted.add(answer[0].task.id)
        except ServiceUnavailable:
            self.perhaps_deleted.add(task_id)
        except GatewayError:
            pass  # rejected: the invariants check that nothing has changed

    async def _delete(self, task_id: str) -> bool:
        await self.tasks.delete(CALLER, task_id)
        self.deleted.add(task_id)
        return True

    # What the loops do

    async def claim(self, limit: int) -> None:
        try:
            claimed = await self.do(self.dispatch.claim(limit))
        except ServiceUnavailable:
            # The process survives and will find out, unless it dies first.
            claimed = None
        if claimed is not None:
            self.in_hand += claimed
        else:
            # The process died around the commit. If the claim was committed, its outcome stays unknown.
            self.uncertain.update(task.id for task in self.books.tasks().values() if task.status == "submitting")

    async def send(self, index: int, fate: Fate, *, succeeds: bool, early: str | None) -> None:
        claimed = self.in_hand.pop(index % len(self.in_hand))
        self.vendor.fate, self.vendor.succeeds, self.early = fate, succeeds, early
        if self.vendor.fate_now in AMBIGUOUS or self.database.pull is not None:
            self.uncertain.add(claimed.task.id)
        await self.do(self.dispatch.send(claimed))

    async def poll(self) -> None:
        with suppress(ServiceUnavailable):
            for task in await self.do(self.reconcile.claim(8)) or []:
                await self.do(self.reconcile.poll(task))

    async def expire(self) -> None:
        # Claimed tasks held past their deadline without being sent are indeterminate, too.
        self.uncertain.update(claimed.task.id for claimed in self.in_hand)
        with suppress(ServiceUnavailable):
            await self.do(self.reconcile.expire())
            await self.do(self.dispatch.release_lost())

    async def step_clock(self, milliseconds: int) -> None:
        """Set the clock, which the loop notices within a second."""
        self.clock.step(milliseconds)
        with suppress(ServiceUnavailable):
            await self.do(self.repair.run_once())

    # What the vendor does

    async def call_back(self, order: Order, verdict: Succeeded | Failed, upstream_id: str) -> None:
        token = self.tokens.sign(order.task_id)
        answer = await self._receive(token, body_of(verdict, upstream_id))
        if answer is CallbackOutcome.RECEIVED:
            assert order.task_id not in self.first_verdict, "a second verdict was applied"
            self.first_verdict[order.task_id] = verdict

    async def call_back_with(self, order: Order, body: bytes) -> None:
        answer = await self._receive(self.tokens.sign(order.task_id), body)
        assert answer in {None, CallbackOutcome.DUPLICATE}, f"{body!r} was accepted as a verdict"

    async def _receive(self, token: str, body: bytes) -> CallbackOutcome | None:
        task_id = self.callbacks.check_token(token)
        try:
            return await self.do(self.callbacks.receive(task_id, body))
        except GatewayError:
            return None

    async def _before_reply(self, fate: Fate, upstream_id: str) -> None:
        if fate is Fate.CRASH:
            await self.database.go_dark()
        order = self.vendor.orders.get(upstream_id)
        if self.early is None or order is None:
            return
        order.is_finished = True
        token = self.tokens.sign(order.task_id)
        body = b"{" if self.early == "garbage" else body_of(order.verdict, upstream_id)
        try:
            answer = await self.callbacks.receive(self.callbacks.check_token(token), body)
        except GatewayError:
            return
        if answer is CallbackOutcome.RECEIVED:
            self.first_verdict[order.task_id] = order.verdict


def body_of(verdict: Succeeded | Failed, upstream_id: str) -> bytes:
    """Write a verdict as the vendor's callback, shape A."""
    if isinstance(verdict, Succeeded):
        info = {"resultImageUrl": verdict.image_urls[0]}
        return json.dumps({"code": 200, "msg": "ok", "data": {"taskId": upstream_id, "info": info}}).encode()
    code = int(verdict.error.upstream_code or 501)
    return json.dumps({"code": code, "msg": verdict.error.message, "data": {"taskId": upstream_id}}).encode()
