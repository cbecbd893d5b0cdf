"""Single flight: callers of a key share one call."""

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.errors import ServiceUnavailable
from app.writing.single_flight import Refresh, SingleFlight
from tests.support.clock import HandTimer
from tests.support.turns import turns


class Source:
    """Counts calls, and answers them once opened."""

    def __init__(self) -> None:
        self.calls = 0
        self.error: Exception | None = None
        self.opened = asyncio.Event()

    async def read(self) -> int:
        self.calls += 1
        number = self.calls
        await self.opened.wait()
        if self.error is not None:
            raise self.error
        return number

    async def refresh(self) -> None:
        await self.read()


@pytest.fixture
async def complaints() -> AsyncIterator[list[dict[str, Any]]]:
    """What asyncio reports to the event loop's exception handler."""
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    yield reported
    asyncio.get_running_loop().set_exception_handler(None)


async def test_callers_of_a_key_share_the_running_call() -> None:
    source, flights = Source(), SingleFlight[str, int]("test")
    callers = [asyncio.create_task(flights.run(key, source.read)) for key in ("a", "a", "b", "a")]
    await turns()
    assert (source.calls, len(flights), "a" in flights, "c" in flights) == (2, 2, True, False)
    source.opened.set()
    assert await asyncio.gather(*callers) == [1, 1, 2, 1]
    assert len(flights) == 0
    assert await flights.run("a", source.read) == 3  # a new call


async def test_a_cancelled_caller_does_not_affect_the_others() -> None:
    source, flights = Source(), SingleFlight[str, int]("test")
    first, second = (asyncio.create_task(flights.run("a", source.read)) for _ in range(2))
    await turns()
    first.cancel()
    await turns()
    assert first.cancelled()
    source.opened.set()
    assert await second == 1


async def test_an_exception_reaches_every_caller_and_the_next_call_starts_anew(
    complaints: list[dict[str, Any]],
) -> None:
    source, flights = Source(), SingleFlight[str, int]("test")
    source.error = ValueError("unreadable")
    callers = [asyncio.create_task(flights.run("a", source.read)) for _ in range(3)]
    await turns()
    source.opened.set()
    assert [type(error) for error in await asyncio.gather(*callers, return_exceptions=True)] == [ValueError] * 3
    source.error = None
    assert await flights.run("a", source.read) == 2
    gc.collect()
    assert complaints == []


async def test_an_exception_without_callers_is_not_reported(complaints: list[dict[str, Any]]) -> None:
    source, flights = Source(), SingleFlight[str, int]("test")
    source.error = ValueError("unreadable")
    caller = asyncio.create_task(flights.run("a", source.read))
    await turns()
    caller.cancel()
    source.opened.set()
    await turns()
    del caller
    gc.collect()
    assert (complaints, len(flights)) == ([], 0)


async def test_closing_cancels_calls_and_their_callers_get_an_error() -> None:
    source, flights = Source(), SingleFlight[str, int]("test")
    caller = asyncio.create_task(flights.run("a", source.read))
    await turns()
    await flights.aclose()
    with pytest.raises(ServiceUnavailable):
        await caller
    assert len(flights) == 0


@pytest.fixture
def monotonic() -> HandTimer:
    return HandTimer()


async def test_a_refresh_is_shared_and_repeated_only_when_no_longer_fresh(monotonic: HandTimer) -> None:
    source = Source()
    source.opened.set()
    refresh = Refresh(source.refresh, monotonic)
    await asyncio.gather(*(refresh.refresh() for _ in range(10)))
    assert source.calls == 1
    for later, calls in ((0.4, 1), (0.2, 2), (0.4, 2)):
        monotonic.seconds += later
        await refresh.refresh()
        assert source.calls == calls
    monotonic.seconds -= 60  # the wall clock was set back
    await refresh.refresh()
    assert source.calls == 3


async def test_one_caller_waits_for_a_refresh_and_the_others_only_when_stale(monotonic: HandTimer) -> None:
    source = Source()
    source.opened.set()
    refresh = Refresh(source.refresh, monotonic)
    await refresh.refresh()
    source.opened.clear()

    monotonic.seconds += 0.6
    waiting = [asyncio.create_task(refresh.refresh())]
    await turns()
    await asyncio.wait_for(refresh.refresh(), 5)  # uses the recent value
    monotonic.seconds += 0.4
    waiting += [asyncio.create_task(refresh.refresh()) for _ in range(2)]
    await turns()
    assert (source.calls, [task.done() for task in waiting]) == (2, [False] * 3)
    source.opened.set()
    await asyncio.gather(*waiting)
    assert source.calls == 2


@pytest.mark.parametrize("fails_with", [ServiceUnavailable("away"), ValueError("unreadable")])
async def test_a_failed_refresh_reaches_its_callers_and_is_retried(
    monotonic: HandTimer, fails_with: Exception, complaints: list[dict[str, Any]]
) -> None:
    source = Source()
    source.opened.set()
    refresh = Refresh(source.refresh, monotonic)
    source.error = fails_with
    failed = await asyncio.gather(*(refresh.refresh() for _ in range(3)), return_exceptions=True)
    assert failed == [fails_with] * 3
    source.error = None
    await refresh.refresh()
    assert source.calls == 2
    gc.collect()
    assert complaints == []
