"""Earlier outcomes in a commit affect later work."""

import asyncio
import threading
from pathlib import Path

import pytest

from app.clock import SystemClock
from app.db.engine import Database
from app.domain.caller import Caller
from app.domain.models import Model
from app.domain.submission import Submission
from app.domain.submit_outcome import AccountRefused, SubmitOutcome
from app.domain.task import Status
from app.domain.verdict import ErrorCode, Report, TaskError, Unreadable
from app.tasks.service import TaskService
from app.upstream.dispatcher import Dispatcher
from app.writing.unit_of_work import UnitOfWork
from app.writing.wake_up import WakeUp
from app.writing.writer import Writer
from tests.support.databases.sqlite import create_sqlite
from tests.support.tasks import POLICY

CLOCK = SystemClock()
SUBMISSION = Submission(model=Model.NANO_BANANA, input={"prompt": "a lake", "image_urls": []}, metadata={})


class Broke:
    """An upstream whose account has no credits left."""

    def __init__(self) -> None:
        self.submits = 0

    async def submit(self, model: Model, task_input: dict[str, object], callback_url: str) -> SubmitOutcome:
        self.submits += 1
        return AccountRefused(TaskError(ErrorCode.INSUFFICIENT_CREDITS, "no credits", "402"))

    async def record_info(self, upstream_task_id: str) -> Report:
        return Unreadable("nobody asks")

    async def check(self) -> TaskError | None:
        return None


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return create_sqlite(tmp_path / "test.db")


async def test_a_requeued_task_is_not_claimed_before_the_account_is_held(sqlite_url: str) -> None:
    database = Database(sqlite_url)
    writer = Writer(database, CLOCK, lambda _: None)
    tasks = TaskService(database=database, writer=writer, clock=CLOCK, policy=POLICY)
    dispatch = Dispatcher(
        database=database,
        writer=writer,
        client=Broke(),
        clock=CLOCK,
        policy=POLICY,
        rate_limit=None,
        callback_url=lambda task_id: f"http://127.0.0.1/{task_id}",
        wake_up=WakeUp(),
    )
    writer.start()
    state, _ = await tasks.submit(Caller("default"), SUBMISSION)
    (claimed,) = await dispatch.claim(1)
    go_on = threading.Event()

    def hold_up(_unit: UnitOfWork) -> None:
        assert go_on.wait(10)  # in SQLite's own thread

    held_up = asyncio.create_task(writer.run(hold_up))
    await _some_turns()
    claiming = asyncio.create_task(dispatch.claim(1))
    await _some_turns()
    sending = asyncio.create_task(dispatch.send(claimed))
    await _some_turns()
    go_on.set()
    await asyncio.gather(held_up, sending)
    assert await claiming == []
    assert (await tasks.get(Caller("default"), state.task.id)).task.status is Status.QUEUED
    await writer.aclose()
    await database.aclose()


async def _some_turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)
