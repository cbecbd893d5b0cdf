"""The writer: changes share commits, count once, and fail alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from sqlalchemy import Select, select

from app.clock import SystemClock
from app.container import Container
from app.db import task_store
from app.db.batch_store import StaleTask
from app.db.engine import Connection, Database
from app.db.event_store import of_task
from app.db.migrate import migrate
from app.db.schema import events
from app.domain.task import Task
from app.domain.transitions import Transition
from app.domain.verdict import ErrorCode, TaskError
from app.errors import GatewayError, ServiceUnavailable
from app.settings import Settings
from app.writing.unit_of_work import Decider, Decision, UnitOfWork
from app.writing.writer import Writer
from tests.support.databases.postgres import PostgresServer
from tests.support.tasks import STATES, make_task


def named(number: int) -> Task:
    return make_task(id=f"task_{number:032x}")


async def count_events(database: Database, task_id: str) -> int:
    return len(await database.read(lambda connection: of_task(connection, task_id)))


def ids_of(connection: Connection, statement: Select[tuple[int]]) -> list[int]:
    return [row.id for row in connection.execute(statement)]


def counting(task: Task | None) -> Decision[int]:
    assert task is not None
    after = replace(task, attempts=task.attempts + 1)
    return Decision(after.attempts, Transition(after))


def saying(message: str) -> Decider[None]:
    def decide(task: Task | None) -> Decision[None]:
        assert task is not None
        return Decision(None, Transition(replace(task, error=TaskError(ErrorCode.UPSTREAM_ERROR, message))))

    return decide


def becoming(wanted: Task) -> Decider[None]:
    def decide(task: Task | None) -> Decision[None]:
        assert task is not None
        return Decision(None, Transition(replace(wanted, version=task.version)))

    return decide


@asynccontextmanager
async def writing(database: Database) -> AsyncIterator[Writer]:
    writer = Writer(database, SystemClock(), lambda _: None)
    writer.start()
    try:
        yield writer
    finally:
        await writer.aclose()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url)
    await migrate(database)
    yield database
    await database.aclose()


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[Writer]:
    async with writing(database) as writer:
        yield writer


async def read(database: Database, task_id: str) -> Task | None:
    return await database.read(lambda connection: task_store.get(connection, task_id))


async def test_concurrent_changes_of_one_task_each_count(database: Database, writer: Writer) -> None:
    task_id = await writer.create(named(1))
    counts = await asyncio.gather(*(writer.move(task_id, counting) for _ in range(600)))
    assert sorted(counts) == list(range(1, 601))
    task = await read(database, task_id)
    assert task is not None
    assert task.attempts == 600
    told = await database.read(
        lambda connection: [event["snapshot"]["attempts"] for event in of_task(connection, task_id)]
    )
    assert told == list(range(601))


async def test_changes_of_many_tasks_by_two_writers_each_count(database: Database, writer: Writer) -> None:
    ids = await asyncio.gather(*(writer.create(named(number)) for number in range(40)))
    async with writing(database) as other:
        backwards = [(other, task_id) for task_id in reversed(ids)]
        both = [pair for pairs in zip([(writer, i) for i in ids], backwards, strict=True) for pair in pairs]
        await asyncio.gather(*(one.move(task_id, counting) for one, task_id in both * 5))
    for task_id in ids:
        task = await read(database, task_id)
        assert task is not None
        assert task.attempts == 10


async def test_everything_that_a_decision_changes_is_stored(database: Database, writer: Writer) -> None:
    task_id = await writer.create(named(1))
    for state in STATES.values():
        wanted = replace(state, id=task_id, failures=3, asked_at=7, asks=2, not_before=9)
        await writer.move(task_id, becoming(wanted))
        stored = await read(database, task_id)
        assert stored is not None
        assert replace(stored, version=0) == wanted


async def test_a_task_can_be_changed_and_read_in_the_commit_that_creates_it(writer: Writer) -> None:
    def look(unit: UnitOfWork) -> dict[str, int]:
        found = task_store.get_all(unit.connection, [named(1).id, named(2).id])
        return {task_id: task.attempts for task_id, task in found.items()}

    ends = [writer.create(named(1)), writer.create(named(2)), writer.move(named(1).id, counting), writer.run(look)]
    *_, count, seen = await asyncio.gather(*ends, return_exceptions=True)
    assert (count, seen) == (1, {named(1).id: 1, named(2).id: 0})


async def test_a_task_that_changed_since_it_was_read_is_not_written(database: Database, writer: Writer) -> None:
    ids = await asyncio.gather(*(writer.create(named(number)) for number in range(3)))

    def straying(task: Task | None) -> Decision[int]:
        assert task is not None
        return Decision(0, Transition(replace(task, attempts=9, version=task.version + 1)))

    deciders = [counting, straying, counting]
    moves = [writer.move(task_id, decide) for task_id, decide in zip(ids, deciders, strict=True)]
    first, stale, last = await asyncio.gather(*moves, return_exceptions=True)
    assert isinstance(stale, StaleTask)
    assert (first, last) == (1, 1)
    tasks = [await read(database, task_id) for task_id in ids]
    assert [task.attempts for task in tasks if task] == [1, 0, 1]
    assert [await count_events(database, task_id) for task_id in ids] == [2, 1, 2]


async def test_a_failed_creation_fails_alone(database: Database, writer: Writer) -> None:
    await writer.create(named(3))
    ends = await asyncio.gather(*(writer.create(named(number)) for number in range(9)), return_exceptions=True)
    assert [number for number, end in enumerate(ends) if end != named(number).id] == [3]
    assert isinstance(ends[3], Exception)
    assert [await count_events(database, named(number).id) for number in range(9)] == [1] * 9


async def test_closing_resolves_waiting_callers_and_skips_cancelled_ones(database: Database) -> None:
    async with writing(database) as writer:
        waiting = [asyncio.create_task(writer.create(named(number))) for number in range(40)]
        await asyncio.sleep(0)
        for left in waiting[::2]:
            left.cancel()
        await writer.aclose()
        await asyncio.sleep(0)
        assert [task.result() for task in waiting[1::2]] == [named(number).id for number in range(1, 40, 2)]
        assert all(task.cancelled() for task in waiting[::2])


@pytest.mark.parametrize("fault", ["exception", "gateway error", "unstorable", "run"])
async def test_a_bad_change_fails_alone(database: Database, writer: Writer, fault: str) -> None:
    ids = await asyncio.gather(*(writer.create(named(number)) for number in range(9)))

    def raising(task: Task | None) -> Decision[None]:
        raise (GatewayError("no") if fault == "gateway error" else RuntimeError("no"))

    def failing(unit: UnitOfWork) -> None:
        raise RuntimeError("no")

    def act(number: int) -> asyncio.Future[Any]:
        if number != 4:
            return asyncio.ensure_future(writer.move(ids[number], counting))
        if fault == "run":
            return asyncio.ensure_future(writer.run(failing))
        bad = saying("\ud800") if fault == "unstorable" else raising
        return asyncio.ensure_future(writer.move(ids[4], bad))

    results = await asyncio.gather(*map(act, range(9)), return_exceptions=True)
    assert isinstance(results.pop(4), Exception)
    assert results == [1] * 8
    for number, task_id in enumerate(ids):
        task = await read(database, task_id)
        assert task is not None
        assert task.attempts == (0 if number == 4 else 1)
        assert await count_events(database, task_id) == (1 if number == 4 else 2)


async def test_a_change_survives_its_cancelled_caller(database: Database, writer: Writer) -> None:
    task_id = await writer.create(named(1))
    waiting = [asyncio.create_task(writer.move(task_id, counting)) for _ in range(10)]
    await asyncio.sleep(0)
    for one in waiting:
        one.cancel()
    assert await writer.move(task_id, counting) == 11


async def test_closing_commits_pending_work_and_accepts_no_more(database: Database) -> None:
    async with writing(database) as writer:
        task_id = await writer.create(named(1))
        moving = asyncio.create_task(writer.move(task_id, counting))
        await asyncio.sleep(0)
        await writer.aclose()
        assert await moving == 1
        with pytest.raises(ServiceUnavailable):
            await writer.move(task_id, counting)
        with pytest.raises(ServiceUnavailable):
            await writer.create(named(2))


async def test_events_appear_in_the_order_of_their_numbers(postgres: PostgresServer) -> None:
    database = Database(await asyncio.to_thread(postgres.create_database))
    await migrate(database)
    seen: list[int] = []
    done = asyncio.Event()

    async def follow() -> None:
        last = 0
        while True:
            is_last_look = done.is_set()
            statement = select(events.c.id).where(events.c.id > last).order_by(events.c.id)
            found = await database.read(partial(ids_of, statement=statement))
            seen.extend(found)
            last = max([last, *found])
            if is_last_look:
                return

    async with writing(database) as one, writing(database) as two:
        ids = await asyncio.gather(*(one.create(named(number)) for number in range(20)))
        following = asyncio.create_task(follow())
        for _ in range(15):
            await asyncio.gather(*(w.move(task_id, counting) for w in (one, two) for task_id in ids))
        done.set()
        await following
    every = await database.read(
        lambda connection: [row.id for row in connection.execute(select(events.c.id).order_by(events.c.id))]
    )
    assert len(every) == 20 + 20 * 2 * 15
    assert seen == every
    await database.aclose()


async def test_a_claim_that_was_never_registered_is_put_back(
    database_url: str, database: Database, tmp_path: Path
) -> None:
    settings = Settings(
        _env_file=None, database_url=database_url, data_dir=tmp_path, secret_key="s", upstream_rate_limit="0"
    )
    container = Container(settings, upstream_url="http://127.0.0.1:1", upstream_key="k")
    await container.start()
    try:
        lost, held = [
            await container.kernel.writer.create(make_task(id=f"task_{n:032x}", deadline_at=2**50)) for n in (1, 2)
        ]
        claiming = asyncio.create_task(container.upstream.dispatcher.claim(1))
        await asyncio.sleep(0)
        claiming.cancel()
        assert [one.task.id for one in await container.upstream.dispatcher.claim(1)] == [held]
        assert await container.upstream.dispatcher.release_lost() == 1
        assert await container.upstream.dispatcher.release_lost() == 0
        tasks = [await read(database, task_id) for task_id in (lost, held)]
        assert [task.status for task in tasks if task] == ["queued", "submitting"]
    finally:
        await container.aclose()
