"""Storage gates: retries of failed storage with growing pauses."""

import asyncio
import time

import pytest

from app.storage.gate import StorageGate
from tests.support.turns import turns


def gate(first: float = 0.02, most: float = 60.0) -> StorageGate:
    return StorageGate("test", first_pause_seconds=first, max_pause_seconds=most)


async def test_while_it_is_open_nobody_waits() -> None:
    one = gate()
    async with one.turn(), one.turn():
        assert not one.is_awaited
    assert one.is_open


async def test_while_it_is_closed_one_tries_at_a_time_and_pauses_grow() -> None:
    one, tries = gate(), list[float]()

    async def attempt() -> None:
        while len(tries) < 4:
            async with one.turn():
                tries.append(time.monotonic())
                one.note_failure("still away")

    began = time.monotonic()
    one.note_failure("away")
    await asyncio.gather(*(attempt() for _ in range(3)))
    pauses = [later - earlier for earlier, later in zip([began, *tries], tries, strict=False)]
    for pause, least in zip(pauses, [0.02, 0.04, 0.08, 0.16], strict=False):
        assert pause >= least


async def test_attempts_that_began_before_it_closed_do_not_count() -> None:
    one = gate(first=30.0)
    for _ in range(20):
        one.note_failure("away")
    one.note_success()
    one.note_failure("away")
    one.note_success()
    async with asyncio.timeout(1), one.turn():
        pass


async def test_one_success_lets_all_go_on_at_once() -> None:
    one, done = gate(first=30.0), list[int]()

    async def attempt(number: int) -> None:
        async with one.turn():
            done.append(number)

    one.note_failure("away")
    waiting = [asyncio.create_task(attempt(number)) for number in range(5)]
    await turns()
    assert (done, one.is_awaited) == ([], True)
    one.note_success()
    await asyncio.gather(*waiting)
    assert sorted(done) == [0, 1, 2, 3, 4]


async def test_storage_that_works_for_a_moment_does_not_end_the_growth() -> None:
    one = gate(first=0.01, most=10.0)
    for least in (0.01, 0.02, 0.04, 0.08):
        one.note_failure("full")
        began = time.monotonic()
        async with one.turn():
            assert time.monotonic() - began >= least - 0.005
            one.note_success()


async def test_the_first_failure_pauses_right_after_the_machine_started() -> None:
    """The monotonic clock then reads less than the longest pause."""
    one = gate(first=30.0, most=time.monotonic() + 3600)
    one.note_failure("away")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05), one.turn():
            pass
