"""A task is sent at most once per attempt."""

import asyncio
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import text

from app.db.engine import Database, Work
from app.domain.caller import Caller
from app.domain.models import Model
from app.domain.submission import Submission
from app.domain.submit_outcome import SubmitOutcome, TryAgain
from app.domain.task import Status
from app.domain.verdict import ErrorCode, Report, TaskError, Unreadable
from app.errors import ServiceUnavailable
from app.tasks.service import TaskService
from app.upstream.dispatcher import Dispatcher
from app.upstream.rate_limit import submit_rate_limit
from app.writing.wake_up import WakeUp
from app.writing.writer import Writer
from tests.support.clock import HandClock
from tests.support.databases.sqlite import create_sqlite
from tests.support.tasks import POLICY

T = TypeVar("T")
CALLER = Caller("default")
SUBMISSION = Submission(model=Model.NANO_BANANA, input={"prompt": "a lake", "image_urls": []}, metadata={})


class Busy:
    """An upstream that is busy and rejects every submit."""

    async def submit(self, model: Model, task_input: dict[str, object], callback_url: str) -> SubmitOutcome:
        return TryAgain(TaskError(ErrorCode.UPSTREAM_ERROR, "busy", "500"))

    async def record_info(self, upstream_task_id: str) -> Report:
        return Unreadable("not polled here")

    async def check(self) -> TaskError | None:
        return None


class LossyDatabase(Database):
    """A database whose connection breaks right after commits that requeue."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.losses = 0
        self.has_lost = asyncio.Event()

    async def write(self, work: Work[T]) -> T:
        """Run work in a transaction; lose its outcome if planned."""
        result = await super().write(work)
        is_queued = text("SELECT count(*) FROM tasks WHERE status = 'queued'")
        if self.losses and await self.read(lambda connection: connection.execute(is_queued).scalar_one()):
            self.losses -= 1
            self.has_lost.set()
            raise ServiceUnavailable("The connection broke.")
        return result


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return create_sqlite(tmp_path / "test.db")


async def test_an_attempt_that_ends_late_does_not_free_the_next(sqlite_url: str) -> None:
    database, clock, wake_up = LossyDatabase(sqlite_url), HandClock(), WakeUp()
    writer = Writer(database, clock, lambda _: None)
    writer.start()
    tasks = TaskService(database=database, writer=writer, clock=clock, policy=POLICY)
    rate_limit = submit_rate_limit(2, window=1_000, longest_call=1_000)
    await database.write(lambda connection: rate_limit.prepare(connection, clock.now()))
    dispatcher = Dispatcher(
        database=database,
        writer=writer,
        client=Busy(),
        clock=clock,
        policy=POLICY,
        rate_limit=rate_limit,
        callback_url=lambda task_id: f"http://127.0.0.1/{task_id}",
        wake_up=wake_up,
        record_pause=0.2,
    )
    state, _ = await tasks.submit(CALLER, SUBMISSION)
    (first,) = await dispatcher.claim(1)

    # The task is recorded as requeued, but this process doesn't know: the first attempt has not ended.
    database.losses = 1
    sending = asyncio.create_task(dispatcher.send(first))
    await database.has_lost.wait()
    clock.time += 2_000
    (second,) = await dispatcher.claim(1)
    assert (second.task.id, second.task.attempts) == (state.task.id, 2)
    await sending

    clock.time += 61_000
    assert await dispatcher.release_lost() == 0, "the second attempt is in hand"
    assert (await tasks.get(CALLER, state.task.id)).task.status is Status.SUBMITTING
    await writer.aclose()
    await database.aclose()
