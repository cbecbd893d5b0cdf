"""Events are read once and reach subscribers once, in order."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace
from sqlalchemy import delete, event, select, text
from sqlalchemy.engine import Engine
from sqlalchemy.ext.asyncio import create_async_engine

from app.clock import SystemClock
from app.db import batch_store
from app.db.batch_store import Batch
from app.db.engine import Database, Work
from app.db.migrate import migrate
from app.db.schema import events, tasks
from app.domain.caller import Caller
from app.domain.event import event_of
from app.domain.task import Status, Task, TaskState
from app.domain.transitions import Transition
from app.errors import ServiceUnavailable, TaskNotFound
from app.events.broadcaster import EventBroadcaster
from app.events.streams import Stream, StreamLimits, Streams
from app.loops.loop import Loop
from app.tasks.service import TaskService
from app.tasks.waiting import TaskWaiter
from app.web.open_requests import OpenLimits, OpenRequests
from app.writing.unit_of_work import Decision
from app.writing.writer import Writer
from tests.support.databases.postgres import PostgresServer
from tests.support.tasks import POLICY, make_task
from tests.support.turns import turns

T = TypeVar("T")
CALLER = Caller("default")
OPEN = OpenRequests(OpenLimits.of_connections(10_000))


def named(number: int) -> Task:
    return make_task(id=f"task_{number:032x}")


def moved(status: Status) -> Any:
    def decide(task: Task | None) -> Decision[None]:
        assert task is not None
        return Decision(None, Transition(replace(task, status=status, updated_at=task.updated_at + 1)))

    return decide


class ObservedDatabase(Database):
    """A database that knows whether a read is running."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.reading = 0
        self.read_ended = asyncio.Event()

    async def read(self, work: Work[T]) -> T:
        """Run work in a transaction."""
        self.reading += 1
        try:
            return await super().read(work)
        finally:
            self.reading -= 1
            self.read_ended.set()


@dataclass
class Parts:
    """A broadcaster and its dependencies.

    Tests call `broadcast` themselves or use `broadcasting`.
    """

    url: str
    database: "ObservedDatabase"
    writer: Writer
    broadcaster: EventBroadcaster
    streams: Streams
    waiting: TaskWaiter

    @asynccontextmanager
    async def broadcasting(self) -> AsyncIterator[None]:
        """Broadcast after each commit, as the service does."""

        loop = Loop("broadcaster", self.broadcaster.broadcast, wake_up=self.broadcaster.wake_up)
        loop.start()
        yield
        loop.stop()
        await loop.stopped()

    async def wait(self, task_id: str, disconnected: "asyncio.Future[None] | None" = None) -> TaskState:
        """Wait for a task until `disconnected` is done, if given."""
        stays: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        return await self.waiting.until_ended(CALLER, task_id, 60, disconnected or stays)

    async def ids(self) -> list[int]:
        return await self.database.read(
            lambda connection: list(connection.scalars(select(events.c.id).order_by(events.c.id)))
        )


@asynccontextmanager
async def parts_on(url: str) -> AsyncIterator[Parts]:
    database = ObservedDatabase(url)
    await migrate(database)
    broadcaster = EventBroadcaster(database, base_url="", deletion_check_seconds=0)
    writer = Writer(database, SystemClock(), lambda _: broadcaster.wake())
    writer.start()
    streams = Streams(database=database, broadcaster=broadcaster, limits=StreamLimits(), open_requests=OPEN)
    all_tasks = TaskService(database=database, writer=writer, clock=SystemClock(), policy=POLICY)
    waiting = TaskWaiter(broadcaster=broadcaster, tasks=all_tasks, open_requests=OPEN)
    try:
        yield Parts(url, database, writer, broadcaster, streams, waiting)
    finally:
        await writer.aclose()
        await database.aclose()


@pytest.fixture
async def parts(database_url: str) -> AsyncIterator[Parts]:
    async with parts_on(database_url) as parts:
        yield parts


@pytest.fixture
async def on_postgres(postgres: PostgresServer) -> AsyncIterator[Parts]:
    async with parts_on(await asyncio.to_thread(postgres.create_database)) as parts:
        yield parts


async def take(stream: Stream, count: int) -> list[int]:
    """Take `count` events from a stream; returns their IDs."""
    ids: list[int] = []
    async with asyncio.timeout(30):
        while len(ids) < count:
            ids += [one.id for one in await stream.next(1)]
    return ids


@dataclass
class Reads:
    """Executed statements, and the number of tasks they requested."""

    statements: list[str] = field(default_factory=list)
    tasks: int = 0


@contextmanager
def reads() -> Iterator[Reads]:
    """Record all reads from any database."""
    noted = Reads()

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith(("SELECT", "-- Read")):
            noted.statements.append(statement)
            noted.tasks += str(parameters).count("task_") if "FROM tasks" in statement else 0

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield noted
    finally:
        event.remove(Engine, "before_cursor_execute", note)


async def until_read(parts: Parts, noted: Reads, count: int) -> None:
    """Wait until `count` callers have read their task.

    This is their last step before they wait for events.
    """
    while noted.tasks < count or parts.database.reading:
        parts.database.read_ended.clear()
        await parts.database.read_ended.wait()
    await turns(10)


async def test_an_event_committed_after_a_higher_number_is_not_missed(on_postgres: Parts) -> None:
    parts = on_postgres
    slow, quick = await asyncio.gather(parts.writer.create(named(1)), parts.writer.create(named(2)))
    numbered, may_commit = asyncio.Event(), asyncio.Event()

    async def write(task_id: str, *, wait: bool) -> None:
        # Each needs a separate connection, because the database has only one for writing.
        engine = create_async_engine("postgresql+asyncpg://", connect_args={"dsn": parts.url})
        async with engine.begin() as connection:
            await connection.run_sync(batch_store.write, Batch(events=[event_of(replace(named(0), id=task_id))]))
            if wait:
                numbered.set()
                await may_commit.wait()
        await engine.dispose()

    async with parts.streams.of_project(CALLER, after=None) as stream:
        slowly = asyncio.create_task(write(slow, wait=True))
        await numbered.wait()
        quickly = asyncio.create_task(write(quick, wait=False))
        # The later number must not be seen before the earlier one. Without the lock it would be committed by now.
        await until_blocked_or_done(parts, quickly)
        await parts.broadcaster.broadcast()
        may_commit.set()
        await asyncio.gather(slowly, quickly)
        await parts.broadcaster.broadcast()
        assert await take(stream, 2) == (await parts.ids())[2:]


async def until_blocked_or_done(parts: Parts, one: "asyncio.Task[None]") -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    async with asyncio.timeout(30):
        while not one.done():
            if await parts.database.read(lambda connection: connection.execute(waiting).scalar_one()):
                return


async def test_nothing_is_missed_or_repeated_under_concurrency(database_url: str) -> None:
    draw = random.Random(1)
    async with parts_on(database_url) as parts, parts.broadcasting():
        others = [Database(database_url) for _ in range(2 if parts.database.is_postgresql else 0)]
        writers = [
            parts.writer,
            *(Writer(other, SystemClock(), lambda _: parts.broadcaster.wake()) for other in others),
        ]
        for writer in writers[1:]:
            writer.start()
        count = 120
        total = count * len(writers) * 2

        begin = [asyncio.Event() for _ in range(total // 2)]
        written = iter(begin)

        async def write(writer: Writer, first: int) -> None:
            for number in range(first, first + count):
                next(written).set()
                task_id = await writer.create(named(number))
                await writer.move(task_id, moved(Status.PROCESSING))

        async def follow(begin: asyncio.Event) -> list[int]:
            await begin.wait()
            known = await parts.ids()
            after = draw.choice([0, *known])
            async with parts.streams.of_project(CALLER, after=after) as stream:
                seen: list[int] = []
                async with asyncio.timeout(60):
                    while (seen or [after])[-1] < last:
                        seen += [one.id for one in await stream.next(1)]
            return [after, *seen]

        last = total
        followers = [asyncio.create_task(follow(draw.choice(begin))) for _ in range(40)]
        await asyncio.gather(*(write(writer, 1000 * n) for n, writer in enumerate(writers)))
        seen = await asyncio.gather(*followers)
        every = await parts.ids()
        assert every == list(range(1, total + 1))
        for after, *ids in seen:
            assert ids == every[after:]
        for writer in writers[1:]:
            await writer.aclose()
        for other in others:
            await other.aclose()


async def test_nothing_is_read_without_subscriptions() -> None:
    away = Database("postgresql://nobody@127.0.0.1:9/none")
    broadcaster = EventBroadcaster(away, base_url="")
    broadcaster.wake()
    assert await broadcaster.broadcast() == 0
    with pytest.raises(ServiceUnavailable):
        async with Streams(
            database=away, broadcaster=broadcaster, limits=StreamLimits(), open_requests=OPEN
        ).of_project(CALLER, after=None):
            pass
    await away.aclose()


async def test_events_that_could_not_be_read_are_broadcast_later(on_postgres: Parts) -> None:
    parts = on_postgres

    async def execute(statement: str) -> None:
        await parts.database.write(lambda connection: connection.execute(text(statement)))

    async with parts.streams.of_project(CALLER, after=None) as stream:
        await parts.writer.create(named(1))
        await execute("ALTER TABLE tasks RENAME TO away")
        with pytest.raises(Exception, match="tasks"):
            await parts.broadcaster.broadcast()
        await execute("ALTER TABLE away RENAME TO tasks")
        await parts.broadcaster.broadcast()
        assert await take(stream, 1) == await parts.ids()


async def test_many_waiters_cost_no_more_reads_than_one(parts: Parts) -> None:
    ids = await asyncio.gather(*(parts.writer.create(named(number)) for number in range(300)))
    with reads() as before:
        waiting = [asyncio.create_task(parts.wait(task_id)) for task_id in ids]
        await until_read(parts, before, 300)
    assert sum("max(" in one for one in before.statements) == 1
    await asyncio.gather(*(parts.writer.move(task_id, moved(Status.PROCESSING)) for task_id in ids))
    with reads() as meanwhile:
        for _ in range(10):
            await parts.broadcaster.broadcast()
    # Each time, one read for the events and one for deleted tasks.
    assert len(meanwhile.statements) == 20
    async with parts.broadcasting():
        await asyncio.gather(*(parts.writer.move(task_id, moved(Status.CANCELED)) for task_id in ids))
        states = await asyncio.gather(*waiting)
    assert [state.task.status for state in states] == [Status.CANCELED] * 300


async def test_deleting_a_task_ends_its_waits_and_streams(parts: Parts) -> None:
    task_id = await parts.writer.create(named(1))
    with reads() as before:
        waiting = asyncio.create_task(parts.wait(task_id))
        await until_read(parts, before, 1)
    async with parts.streams.of_task(CALLER, task_id, after=None) as stream:
        assert len(await stream.next(0)) == 1
        # Bypasses the service, so that no event announces the end.
        await parts.database.write(lambda connection: connection.execute(delete(tasks).where(tasks.c.id == task_id)))
        async with parts.broadcasting():
            with pytest.raises(TaskNotFound):
                await waiting
            assert await stream.next(10) == []
        assert isinstance(stream.cut, TaskNotFound)


async def test_a_provisional_result_ends_a_stream_and_its_replacement_is_a_new_event(parts: Parts) -> None:
    task_id = await parts.writer.create(named(1))
    await parts.writer.move(task_id, moved(Status.FAILED))
    async with parts.streams.of_task(CALLER, task_id, after=None) as stream:
        assert await take(stream, 2) == await parts.ids()
        assert stream.is_over
    await parts.writer.move(task_id, moved(Status.SUCCEEDED))
    async with parts.streams.of_task(CALLER, task_id, after=(await parts.ids())[1]) as stream:
        assert await take(stream, 1) == (await parts.ids())[2:]
        assert (stream.is_over, stream.cut) == (True, None)


async def test_a_stopped_broadcaster_pushes_nothing(parts: Parts) -> None:
    task_id = await parts.writer.create(named(1))
    parts.broadcaster.stop()
    state = await parts.wait(task_id)
    assert state.task.status is Status.QUEUED
    with pytest.raises(ServiceUnavailable):
        async with parts.streams.of_project(CALLER, after=None):
            pass


async def test_a_stop_during_a_replay_leaves_no_gap_when_resumed(parts: Parts) -> None:
    for number in range(150):
        await parts.writer.create(named(number))
    async with parts.streams.of_project(CALLER, after=0) as stream:
        assert len(await stream.next(0)) == 100
        # The broadcaster continues while the stream still reads past events.
        await parts.writer.create(named(150))
        await parts.broadcaster.broadcast()
        parts.broadcaster.stop()
        assert [one.id for one in await stream.next(0)] == []
        assert stream.is_over
        assert isinstance(stream.cut, ServiceUnavailable)


async def test_the_end_of_another_callers_task_is_not_visible(parts: Parts) -> None:
    task_id = await parts.writer.create(replace(named(1), project="other"))
    with pytest.raises(TaskNotFound):
        await parts.wait(task_id)
    async with parts.streams.of_task(CALLER, task_id, after=None) as stream:
        with pytest.raises(TaskNotFound):
            await stream.next(0)


async def test_a_subject_receives_only_events_of_its_own_tasks(parts: Parts) -> None:
    ours, theirs = Caller("default", "user-1"), Caller("default", "user-2")
    async with parts.broadcasting(), parts.streams.of_project(ours, after=None) as live:
        for number, subject in enumerate(["user-2", None, "user-1"] * 40):
            await parts.writer.create(replace(named(number), subject=subject))
        every = await parts.ids()
        assert await take(live, 40) == every[2::3]
    async with parts.streams.of_project(theirs, after=0) as replay:
        assert await take(replay, 40) == every[0::3]
    async with parts.streams.of_project(CALLER, after=0) as replay:
        assert await take(replay, 120) == every


async def test_events_already_taken_do_not_end_the_next_wait(parts: Parts) -> None:
    async with parts.streams.of_project(CALLER, after=None) as stream:
        for number in range(2):
            await parts.writer.create(named(number))
            await parts.broadcaster.broadcast()
        assert len(await stream.next(0)) == 2
        waiting = asyncio.create_task(stream.next(60))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(waiting), 0.1)
        stream.close()
        assert await waiting == []


async def test_a_client_that_disconnects_stops_waiting(parts: Parts) -> None:
    task_id = await parts.writer.create(named(1))
    disconnected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(parts.wait(task_id, disconnected))
    disconnected.set_result(None)
    await waiting
    assert OPEN.count == 0
