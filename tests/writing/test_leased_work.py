"""Leased work: held items, lost claims, and retried writes."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from app.errors import ServiceUnavailable
from app.writing.leased_work import LeasedWork
from tests.support.clock import HandClock
from tests.support.turns import turns


@dataclass(frozen=True)
class Job:
    id: str
    attempt: int


FIRST, SECOND = Job("a", 1), Job("a", 2)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def work(clock: HandClock) -> LeasedWork[Job]:
    return LeasedWork("test", lambda job: (job.id, job.attempt), clock=clock, pause_seconds=0)


async def forever() -> None:
    await asyncio.Event().wait()


async def committed(*jobs: Job) -> list[Job]:
    return list(jobs)


async def test_claimed_items_are_held_until_done(work: LeasedWork[Job]) -> None:
    assert await work.claim(committed(FIRST, Job("b", 1))) == [FIRST, Job("b", 1)]
    assert (work.items, work.ids) == ([FIRST, Job("b", 1)], frozenset("ab"))
    ended = work.ended("a")
    assert ended is not None
    assert not ended.is_set()
    work.done(FIRST)
    assert ended.is_set()
    assert (work.ended("a"), work.ids) == (None, frozenset("b"))


async def test_an_attempt_that_ends_late_does_not_release_the_next(work: LeasedWork[Job]) -> None:
    await work.claim(committed(FIRST))
    await work.claim(committed(SECOND))
    work.done(FIRST)
    assert work.items == [SECOND]
    assert await work.lost([("a", 1), ("a", 2)]) == [("a", 1)]


async def test_nothing_is_lost_while_a_claim_is_on_its_way(work: LeasedWork[Job]) -> None:
    reply = asyncio.Event()

    async def commit() -> list[Job]:
        await reply.wait()
        return [FIRST]

    claiming = asyncio.create_task(work.claim(commit()))
    await turns()
    asking = asyncio.create_task(work.lost([("a", 1), ("b", 1)]))
    await turns()
    assert not asking.done(), "the claim may turn out to be either"
    reply.set()
    assert await claiming == [FIRST]
    assert await asking == [("b", 1)]


async def test_a_claim_whose_commit_fails_is_lost_if_it_was_committed(work: LeasedWork[Job]) -> None:
    async def commit() -> list[Job]:
        raise ServiceUnavailable("The connection broke.")

    with pytest.raises(ServiceUnavailable):
        await work.claim(commit())
    assert await work.lost([("a", 1)]) == [("a", 1)]


async def test_only_claims_that_are_awaited_at_the_moment_are_waited_for(work: LeasedWork[Job]) -> None:
    """A busy process would otherwise never find lost claims."""
    replies = [asyncio.Event(), asyncio.Event()]

    async def commit(reply: asyncio.Event) -> list[Job]:
        await reply.wait()
        return []

    first = asyncio.create_task(work.claim(commit(replies[0])))
    await turns()
    asking = asyncio.create_task(work.lost([("a", 1)]))
    await turns()
    second = asyncio.create_task(work.claim(commit(replies[1])))
    await turns()
    replies[0].set()
    assert await asking == [("a", 1)]
    replies[1].set()
    await asyncio.gather(first, second)


async def test_what_is_held_is_not_lost_and_waits_for_nothing(work: LeasedWork[Job]) -> None:
    await work.claim(committed(FIRST))
    claiming = asyncio.create_task(work.claim(forever_claiming()))
    await turns()
    assert await work.lost([("a", 1)]) == []
    claiming.cancel()


async def forever_claiming() -> list[Job]:
    await asyncio.Event().wait()
    return []


async def test_cancelled_work_is_put_back_before_it_is_released(work: LeasedWork[Job]) -> None:
    put_back: list[frozenset[str]] = []

    async def put_back_now() -> None:
        put_back.append(work.ids)
        raise ServiceUnavailable("away")  # so the lease has to end

    await work.claim(committed(FIRST))
    running = asyncio.create_task(work.run(FIRST, forever(), put_back_now))
    await turns()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (put_back, work.items) == ([frozenset("a")], [])


@pytest.mark.parametrize("error", [ServiceUnavailable("away"), ValueError("a fault")])
async def test_work_that_fails_is_left_to_its_lease(work: LeasedWork[Job], error: Exception) -> None:
    put_back: list[str] = []

    async def fail() -> None:
        raise error

    async def put_back_now() -> None:
        put_back.append("put back")

    await work.claim(committed(FIRST))
    if isinstance(error, ServiceUnavailable):
        await work.run(FIRST, fail(), put_back_now)
    else:
        with pytest.raises(ValueError, match="a fault"):
            await work.run(FIRST, fail(), put_back_now)
    assert (put_back, work.items) == ([], [])


@pytest.mark.parametrize("error", [ServiceUnavailable("away"), ValueError("a fault")])
async def test_an_outcome_is_retried_until_it_is_written(work: LeasedWork[Job], error: Exception) -> None:
    attempts = 0

    async def write() -> int:
        nonlocal attempts
        attempts += 1
        if attempts < 50:
            raise error
        return attempts

    assert await work.record(write) == 50


async def test_an_outcome_is_given_up_when_its_lease_ends(work: LeasedWork[Job], clock: HandClock) -> None:
    attempts = 0

    async def write() -> None:
        nonlocal attempts
        attempts += 1
        clock.time += 1_000
        raise ServiceUnavailable("away")

    with pytest.raises(ServiceUnavailable):
        await work.record(write, until=clock.now() + 10_000)
    assert attempts == 10


class HastyLoop(asyncio.SelectorEventLoop):
    """An event loop that records pauses instead of waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.pauses: list[float] = []

    def call_later(self, delay: float, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:  # type: ignore[override]
        self.pauses.append(delay)
        return super().call_later(0, *args, **kwargs)


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (ServiceUnavailable("away"), [0.5, 1, 2, 2, 2, 2, 2, 2]),
        (ValueError("a fault"), [0.5, 1, 2, 4, 8, 10, 10, 10]),
    ],
)
def test_pauses_between_writes_grow_to_a_limit(clock: HandClock, error: Exception, pauses: list[float]) -> None:
    left = len(pauses)

    async def write() -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise error

    async def record() -> list[float]:
        await LeasedWork[Job]("test", lambda job: (job.id, job.attempt), clock=clock).record(write)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, HastyLoop)
        return loop.pauses

    with asyncio.Runner(loop_factory=HastyLoop) as runner:
        assert runner.run(record()) == pauses
