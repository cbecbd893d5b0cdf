"""Lost claims are requeued, but never during their commit."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import pytest

from app.db import task_store
from app.db.engine import Database, Work
from app.domain import transitions
from app.domain.task import Status, Task
from app.errors import ServiceUnavailable
from app.upstream.client import UpstreamClient
from app.upstream.dispatcher import Dispatcher
from app.upstream.reconciler import Reconciler
from app.writing.unit_of_work import Decision
from app.writing.wake_up import WakeUp
from app.writing.writer import Writer
from tests.support.clock import HandClock
from tests.support.servers.vendor import Reply, Vendor, record
from tests.support.tasks import POLICY, make_task

T = TypeVar("T")


class SlowToReply(Database):
    """A database whose commit replies can be delayed or lost."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.has_committed = asyncio.Event()
        self.reply = asyncio.Event()
        self.reply.set()
        self.breaks = False

    def hold(self) -> None:
        """Hold the reply to the next commit."""
        self.has_committed.clear()
        self.reply.clear()

    async def write(self, work: Work[T]) -> T:
        result = await super().write(work)
        self.has_committed.set()
        await self.reply.wait()
        if self.breaks:
            raise ServiceUnavailable("The connection broke.")
        return result


@dataclass
class Sender:
    database: SlowToReply
    dispatcher: Dispatcher
    clock: HandClock
    task_id: str

    async def status(self) -> Status:
        task = await self.database.read(lambda connection: task_store.get(connection, self.task_id))
        assert task is not None
        return task.status


@asynccontextmanager
async def sender(database_url: str) -> AsyncIterator[Sender]:
    database, clock = SlowToReply(database_url), HandClock()
    writer = Writer(database, clock, lambda _: None)
    writer.start()
    client = UpstreamClient(base_url="http://127.0.0.1:1", api_key="none", timeout=1, concurrency=1)
    dispatcher = Dispatcher(
        database=database,
        writer=writer,
        client=client,
        clock=clock,
        policy=POLICY,
        rate_limit=None,
        callback_url=lambda task_id: task_id,
        wake_up=WakeUp(),
        record_pause=0.01,
    )
    try:
        now = clock.now()
        task_id = await writer.create(make_task(created_at=now, not_before=now, deadline_at=now + 86_400_000))
        yield Sender(database, dispatcher, clock, task_id)
    finally:
        database.reply.set()
        await writer.aclose()
        await client.aclose()
        await database.aclose()


async def test_a_claim_in_progress_is_not_requeued_even_if_the_clock_is_set(database_url: str) -> None:
    async with sender(database_url) as one:
        one.database.hold()
        claiming = asyncio.create_task(one.dispatcher.claim(1))
        await one.database.has_committed.wait()
        one.clock.advance(3_600_000)
        releasing = asyncio.create_task(one.dispatcher.release_lost())
        await asyncio.sleep(0.05)
        one.database.reply.set()
        (claimed,) = await claiming
        assert await releasing == 0
        assert await one.status() is Status.SUBMITTING
        assert await one.dispatcher.release_lost() == 0, "it is in hand"
        await one.dispatcher.send(claimed)
        assert await one.status() is Status.QUEUED, "it could not be sent"


async def test_the_late_end_of_a_poll_does_not_free_the_next(database_url: str, vendor: Vendor) -> None:
    gates = [threading.Event(), threading.Event()]
    late = list(gates)
    vendor.on_poll = lambda asked: Reply(record(asked, 0).body, gate=late.pop(0))
    database, clock = Database(database_url), HandClock()
    writer = Writer(database, clock, lambda _: None)
    writer.start()
    client = UpstreamClient(base_url=vendor.url, api_key="none", timeout=20, concurrency=2)
    reconciler = Reconciler(writer=writer, client=client, clock=clock, policy=POLICY)
    try:
        now = clock.now()
        task = make_task(created_at=now, deadline_at=now + 86_400_000)
        await writer.create(task)
        await writer.move(task.id, lambda found: Decision(None, _processing(found, now)))
        polls = []
        for count in (1, 2):
            clock.advance(2 * POLICY.upstream_timeout + POLICY.poll_after)
            (due,) = await reconciler.claim(1)
            polls.append(asyncio.create_task(reconciler.poll(due)))
            await asyncio.to_thread(vendor.wait_for_polls, count)
        for gate, poll in zip(gates, polls, strict=True):
            gate.set()
            await poll
    finally:
        await writer.aclose()
        await client.aclose()
        await database.aclose()


def _processing(task: Task | None, now: int) -> transitions.Transition | None:
    claimed = transitions.claim(task, "p", now, POLICY) if task else None
    return transitions.accept(claimed.task, "up", now, POLICY) if claimed else None


@pytest.mark.parametrize("step", [-3_600_000, 0, 3_600_000])
async def test_a_claim_with_a_lost_reply_is_requeued_even_if_the_clock_is_set(database_url: str, step: int) -> None:
    async with sender(database_url) as one:
        one.database.breaks = True
        with pytest.raises(ServiceUnavailable):
            await one.dispatcher.claim(1)
        one.database.breaks = False
        assert await one.status() is Status.SUBMITTING
        one.clock.advance(step)
        assert await one.dispatcher.release_lost() == 1
        assert await one.status() is Status.QUEUED


async def test_a_lost_claim_is_not_requeued_after_a_new_claim(database_url: str) -> None:
    async with sender(database_url) as one:
        one.database.breaks = True
        with pytest.raises(ServiceUnavailable):
            await one.dispatcher.claim(1)
        one.database.breaks = False
        # Both find it, but the second handles it only after it was requeued and claimed again.
        one.database.hold()
        first = asyncio.create_task(one.dispatcher.release_lost())
        await one.database.has_committed.wait()
        claiming = asyncio.create_task(one.dispatcher.claim(1))
        one.database.reply.set()
        assert await first == 1
        (again,) = await claiming
        assert again.task.attempts == 2
        assert await one.dispatcher._release(one.task_id, 1) is False  # noqa: SLF001 -- the second one, late
        assert await one.status() is Status.SUBMITTING
