"""Group commit: failures of a shared transaction."""

import asyncio
from typing import Any

from app.errors import ServiceUnavailable
from app.writing.group_commit import GroupCommit


class Numbers(GroupCommit[int]):
    """Commits numbers; negative ones fail.

    The database becomes unreachable after `commits_left` commits.
    """

    def __init__(self, commits_left: int) -> None:
        super().__init__()
        self.commits_left = commits_left
        self.batches: list[list[int]] = []

    async def commit(self, items: list[int]) -> list[int]:
        self.batches.append(items)
        self.commits_left -= 1
        await asyncio.sleep(0)
        if self.commits_left < 0:
            raise ServiceUnavailable("away")
        if min(items) < 0:
            raise ValueError(items)
        return [10 * item for item in items]


async def commit_all(commits: Numbers, works: list[int]) -> list[Any]:
    commits.start()
    try:
        async with asyncio.timeout(5):
            return await asyncio.gather(*map(commits.enqueue, works), return_exceptions=True)
    finally:
        await commits.aclose()


async def test_only_the_failing_work_fails() -> None:
    numbers = Numbers(commits_left=100)
    first, bad, last = await commit_all(numbers, [1, -2, 3])
    assert (first, last) == (10, 30)
    assert isinstance(bad, ValueError)
    assert numbers.batches == [[1, -2, 3], [1], [-2], [3]]


async def test_an_outage_during_single_commits_fails_the_rest_at_once() -> None:
    # The whole batch, one alone, and then the outage.
    numbers = Numbers(commits_left=2)
    bad, *rest = await commit_all(numbers, [-1, *range(1, 300)])
    assert isinstance(bad, ValueError)
    assert all(isinstance(outcome, ServiceUnavailable) for outcome in rest)
    assert len(numbers.batches) == 3


async def test_background_work_waits_for_a_gap_and_goes_alone() -> None:
    numbers = Numbers(commits_left=100)
    numbers.start()
    behind = [numbers.enqueue(work, in_background=True) for work in (7, 8)]
    assert await asyncio.gather(*map(numbers.enqueue, [1, 2]), *behind) == [10, 20, 70, 80]
    await numbers.aclose()
    assert numbers.batches == [[1, 2], [7], [8]]


async def test_under_constant_load_background_work_gets_its_turn() -> None:
    numbers = Numbers(commits_left=1_000)
    numbers.start()
    behind = numbers.enqueue(7, in_background=True)
    while not behind.done():
        # One arrives in each turn of the event loop, so that there is never a gap.
        numbers.enqueue(1)
        await asyncio.sleep(0)
    await numbers.aclose()
    assert numbers.batches.index([7]) == 20


async def test_an_outage_fails_background_work_as_well() -> None:
    numbers = Numbers(commits_left=0)
    numbers.start()
    behind = numbers.enqueue(7, in_background=True)
    outcomes = await asyncio.gather(numbers.enqueue(1), behind, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [ServiceUnavailable] * 2
    await numbers.aclose()
