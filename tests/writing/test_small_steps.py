"""Small steps: items per transaction, and duration of a run."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from app.clock import SystemClock
from app.db.engine import Database
from app.writing.small_steps import SmallSteps
from app.writing.unit_of_work import UnitOfWork
from app.writing.writer import Writer
from tests.support.clock import HandTimer
from tests.support.databases.sqlite import create_sqlite


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return create_sqlite(tmp_path / "test.db")


@pytest.fixture
async def writer(sqlite_url: str) -> AsyncIterator[Writer]:
    database = Database(sqlite_url)
    writer = Writer(database, SystemClock(), lambda _: None)
    writer.start()
    yield writer
    await writer.aclose()
    await database.aclose()


class Change:
    """Takes `seconds` per item and records each transaction's size."""

    def __init__(self, timer: HandTimer, seconds: float) -> None:
        self.timer = timer
        self.seconds = seconds
        self.sizes: list[int] = []

    def __call__(self, _: UnitOfWork, items: Sequence[int]) -> int:
        self.sizes.append(len(items))
        self.timer.seconds += self.seconds * len(items)
        return 2 * len(items)


async def test_steps_grow_and_shrink_with_what_an_item_takes(writer: Writer) -> None:
    timer = HandTimer()
    steps, quick, slow = SmallSteps(writer, timer=timer), Change(timer, 0.0001), Change(timer, 0.002)
    assert await steps.run(range(350), quick) == (350, 700)
    assert quick.sizes == [10, 20, 40, 80, 100, 100]
    assert await steps.run(range(110), slow) == (110, 220)
    # The first one is as large as the last one was.
    assert slow.sizes == [100, 5, 5]


async def test_a_run_ends_when_its_time_is_over_and_reaches_at_least_one(writer: Writer) -> None:
    timer = HandTimer()
    steps, slow = SmallSteps(writer, timer=timer, max_seconds=0.025), Change(timer, 0.0015)
    assert await steps.run(range(100), slow) == (17, 34)
    assert slow.sizes == [10, 7]
    assert await SmallSteps(writer, timer=timer, max_seconds=0.0).run(range(100), slow) == (10, 20)
    assert await steps.run([], slow) == (0, 0)
