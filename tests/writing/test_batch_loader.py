"""Batched reads: fewer queries, fresh results, isolated failures."""

import asyncio
import gc
from collections.abc import Sequence
from typing import Any

from app.errors import ServiceUnavailable
from app.writing.batch_loader import BatchLoader
from tests.support.turns import turns


class Table:
    """Reads keys once opened; keys in `bad` fail whole reads."""

    def __init__(self) -> None:
        self.reads: list[list[int]] = []
        self.bad: dict[int, Exception] = {}
        self.opened = asyncio.Event()
        self.loader = BatchLoader("test", self.read)

    async def read(self, keys: Sequence[int]) -> dict[int, str]:
        self.reads.append(list(keys))
        number = len(self.reads)
        await self.opened.wait()
        for key in keys:
            if key in self.bad:
                raise self.bad[key]
        return {key: f"{key} in read {number}" for key in keys if key >= 0}

    def load(self, *keys: int) -> "list[asyncio.Task[str | None]]":
        return [asyncio.create_task(self.loader.load(key)) for key in keys]


async def test_keys_that_arrive_during_a_read_share_the_next() -> None:
    table = Table()
    first = table.load(1)
    await turns()
    # Including the key that is being read: that value may be older than this request.
    later = table.load(2, 3, 1, 3, -1)
    await turns()
    assert table.reads == [[1]]
    table.opened.set()
    assert await asyncio.gather(*first, *later) == [
        "1 in read 1",
        "2 in read 2",
        "3 in read 2",
        "1 in read 2",
        "3 in read 2",
        None,
    ]
    assert table.reads == [[1], [2, 3, 1, -1]]
    assert await table.loader.load(4) == "4 in read 3"


async def test_batches_are_limited() -> None:
    table = Table()
    table.opened.set()
    await asyncio.gather(*table.load(*range(600)))
    assert [len(keys) for keys in table.reads] == [256, 256, 88]


async def test_a_bad_key_fails_alone() -> None:
    table = Table()
    table.opened.set()
    table.bad[2] = ValueError("unreadable")
    results = await asyncio.gather(*table.load(1, 2, 3), return_exceptions=True)
    assert results == ["1 in read 2", table.bad[2], "3 in read 4"]


async def test_an_unavailable_database_fails_the_batch_without_further_reads() -> None:
    table = Table()
    table.opened.set()
    table.bad[2] = ServiceUnavailable("away")
    results = await asyncio.gather(*table.load(1, 2, 3), return_exceptions=True)
    assert results == [table.bad[2]] * 3
    assert len(table.reads) == 1


async def test_an_outage_during_single_reads_fails_the_rest_without_further_reads() -> None:
    table = Table()
    table.opened.set()
    table.bad[1], table.bad[2] = ValueError("unreadable"), ServiceUnavailable("away")
    results = await asyncio.gather(*table.load(1, 2, 3, 4), return_exceptions=True)
    assert results == [table.bad[1], *[table.bad[2]] * 3]
    # The whole batch, the first key, the second key.
    assert len(table.reads) == 3


async def test_a_cancelled_caller_does_not_affect_the_others() -> None:
    table = Table()
    first, second = table.load(1, 1)
    await turns()
    first.cancel()
    await turns()
    assert first.cancelled()
    table.opened.set()
    assert await second == "1 in read 1"


async def test_an_exception_without_callers_is_not_reported() -> None:
    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    table = Table()
    table.bad[1] = ValueError("unreadable")
    (caller,) = table.load(1)
    await turns()
    caller.cancel()
    table.opened.set()
    await turns()
    del caller
    gc.collect()
    assert reported == []
    assert await table.loader.load(2) == "2 in read 2"
