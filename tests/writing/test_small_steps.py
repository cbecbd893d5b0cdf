"""Small steps: how much goes into one transaction, and how long a run takes."""

import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from app.clock import SystemClock
from app.db.engine import Database
from app.writing.small_steps import SmallSteps
from app.writing.unit_of_work import UnitOfWork
from app.writing.writer import Writer
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
    """Takes some seconds per item, and notes how many items each transaction has."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.sizes: list[int] = []

    def __call__(self, _: UnitOfWork, items: Sequence[int]) -> int:
        self.sizes.append(len(items))
        until = time.monotonic() + self.seconds * len(items)
        while time.monotonic() < until:
            time.sleep(0.001)
        return len(items)


async def test_steps_grow_and_shrink_with_what_an_item_takes(writer: Writer) -> None:
    steps, quick, slow = SmallSteps(writer, target_seconds=0.1), Change(0.0005), Change(0.02)
    assert await steps.run(range(500), quick) == (500, 500)
    assert quick.sizes[0] == 10
    assert max(quick.sizes) > 80
    assert await steps.run(range(200), slow) == (200, 200)
    # The first one is as large as the last one was; then each takes about 100 ms.
    assert max(slow.sizes[1:]) <= 6


async def test_a_run_ends_when_its_time_is_over_and_reaches_at_least_one(writer: Writer) -> None:
    slow = Change(0.02)
    reached, result = await SmallSteps(writer, target_seconds=0.02, max_seconds=0.0).run(range(100), slow)
    assert (reached, result, slow.sizes) == (10, 10, [10])
    assert await SmallSteps(writer).run([], slow) == (0, 0)
