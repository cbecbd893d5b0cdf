"""Files and their rows under races and crashes."""

import asyncio
import hashlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import select, text

from app.db import batch_store, blob_store, image_store
from app.db.batch_store import Batch
from app.db.engine import Database
from app.db.migrate import migrate
from app.db.schema import blobs as blob_table
from app.domain.blob import keys_of, original_key
from app.domain.image import Stored, new_images, store
from app.domain.task import Status, Task
from app.images.blobs import RESERVED_MS, BlobBeingDeleted, Blobs, refer
from app.images.orphans import OrphanFinder
from app.imaging.inspect import ImageInfo
from app.storage.store import ImageStore, Missing, open_store
from app.writing.unit_of_work import UnitOfWork
from app.writing.writer import Writer
from tests.support.clock import HandClock
from tests.support.databases.postgres import PostgresServer
from tests.support.tasks import make_task

CONTENT = b"not really a picture"
HASH = hashlib.sha256(CONTENT).hexdigest()
PICTURE = ImageInfo("image/png", 3, 2)


@dataclass
class Shelf:
    """A store, its database, and two processes that use both."""

    database: Database
    writer: Writer
    store: ImageStore
    clock: HandClock
    blobs: Blobs
    directory: Path
    tasks: int = 0

    @property
    def path(self) -> Path:
        return self.directory / "images" / original_key(HASH)

    async def keep(self) -> None:
        source = self.directory / "source"
        source.write_bytes(CONTENT)
        await self.blobs.keep(HASH, source, len(CONTENT), PICTURE)

    async def show(self) -> str:
        """Create a task whose image refers to the file."""
        self.tasks += 1
        task = make_task(id=f"task_{self.tasks:032x}", status=Status.SUCCEEDED, completed_at=self.clock.now())
        await self.writer.run(lambda unit: self._show(unit, task))
        return task.id

    def _show(self, unit: UnitOfWork, task: Task) -> None:
        assert refer(unit, HASH)
        (image,) = new_images(task.id, ("https://x.example/1",), is_kept=True, now=unit.now)
        batch_store.write(unit.connection, Batch(created=[task], images=[image]))
        image_store.save(unit.connection, [store(image, Stored(HASH, "image/png", len(CONTENT), 3, 2))])

    async def forget(self, task_id: str) -> None:
        await self.writer.run(lambda unit: unit.remove_tasks([task_id]))

    async def rows(self) -> list[tuple[bool, bool]]:
        """Whether each row has a scheduled check, and is going."""
        statement = select(blob_table.c.check_at, blob_table.c.is_going)
        found = await self.database.read(lambda connection: connection.execute(statement).all())
        return [(row.check_at is not None, row.is_going) for row in found]


@pytest.fixture
async def s(database_url: str, tmp_path: Path) -> AsyncIterator[Shelf]:
    database, clock = Database(database_url), HandClock()
    await migrate(database)
    async with blobs_on(database, clock, tmp_path) as (writer, blobs, files):
        yield Shelf(database, writer, files, clock, blobs, tmp_path)


@asynccontextmanager
async def blobs_on(
    database: Database, clock: HandClock, directory: Path
) -> AsyncIterator[tuple[Writer, Blobs, ImageStore]]:
    """The parts of a process that handle blobs."""
    writer = Writer(database, clock, lambda _: None)
    writer.start()
    files = open_store(None, directory)
    try:
        yield writer, Blobs(database=database, writer=writer, store=files, clock=clock), files
    finally:
        await writer.aclose()
        await database.aclose()


@pytest.fixture
async def rival(s: Shelf, database_url: str, tmp_path: Path) -> AsyncIterator[Blobs]:
    """The blobs of a second process."""
    async with blobs_on(Database(database_url), s.clock, tmp_path) as (_, blobs, _):
        yield blobs


async def test_a_file_stays_as_long_as_anything_refers_to_it(s: Shelf) -> None:
    await s.keep()
    first, second = await s.show(), await s.show()
    s.clock.advance(RESERVED_MS + 1)
    await s.blobs.collect()
    assert s.path.exists()
    assert await s.rows() == [(False, False)]
    await s.forget(first)
    assert await s.blobs.collect() == 1
    assert s.path.exists()
    for key in keys_of(HASH):
        await s.store.put(key, CONTENT)
    await s.forget(second)
    assert await s.blobs.collect() == 1
    assert not any((s.directory / "images" / key).exists() for key in keys_of(HASH))
    assert await s.rows() == []


async def test_a_reserved_file_is_not_collected_until_its_reservation_ends(s: Shelf) -> None:
    await s.keep()
    assert await s.blobs.collect() == 0
    s.clock.advance(RESERVED_MS - 1)
    # Another caller keeps it, which restarts the time.
    await s.keep()
    s.clock.advance(RESERVED_MS - 1)
    assert await s.blobs.collect() == 0
    await s.show()
    s.clock.advance(2)
    assert await s.blobs.collect() == 1
    assert s.path.exists()


async def test_a_file_without_references_is_collected(s: Shelf) -> None:
    await s.keep()
    s.clock.advance(RESERVED_MS + 1)
    assert await s.blobs.collect() == 1
    assert not s.path.exists()
    # It is too late to refer to it, but it can be kept again.
    assert await s.writer.run(lambda unit: refer(unit, HASH)) is False
    await s.keep()
    await s.show()
    assert s.path.exists()


async def test_a_file_that_is_being_deleted_can_not_be_kept_until_it_is_gone(s: Shelf) -> None:
    await s.keep()
    s.clock.advance(RESERVED_MS + 1)
    # A process marks it and dies.
    until = s.clock.now() + 1000
    await s.writer.run(lambda unit: blob_store.claim_unreferenced(unit.connection, now=unit.now, until=until, limit=9))
    assert await s.rows() == [(True, True)]
    for _ in range(2):
        with pytest.raises(BlobBeingDeleted) as caught:
            await s.keep()
        assert caught.value.retry_after == 1
    assert await s.writer.run(lambda unit: refer(unit, HASH)) is False
    assert await s.blobs.collect() == 0
    # After the lease ends, another process finishes the work.
    s.clock.advance(1001)
    assert await s.blobs.collect() == 1
    assert await s.rows() == []
    assert not s.path.exists()
    await s.keep()
    await s.show()


class _SlowStore(ImageStore):
    """Calls `meanwhile` during the first deletion, or after `after`'s."""

    def __init__(self, store: ImageStore, meanwhile: Callable[[], Awaitable[None]], after: str | None = None) -> None:
        self._inner = store
        self._meanwhile: Callable[[], Awaitable[None]] | None = meanwhile
        self._after = after

    @property
    def is_reachable(self) -> bool:
        return self._inner.is_reachable

    async def delete(self, key: str) -> None:
        if self._after is not None:
            await self._inner.delete(key)
        if self._meanwhile is not None and self._after in {None, key}:
            meanwhile, self._meanwhile = self._meanwhile, None
            await meanwhile()
        if self._after is None:
            await self._inner.delete(key)


async def test_a_slow_deleter_does_not_delete_a_file_that_was_kept_again(s: Shelf, rival: Blobs) -> None:
    async def meanwhile() -> None:
        s.clock.advance(3_600_000)
        assert await rival.collect() == 1
        await s.keep()
        await s.show()

    await s.keep()
    s.clock.advance(RESERVED_MS + 1)
    slow = Blobs(database=s.database, writer=s.writer, store=_SlowStore(s.store, meanwhile), clock=s.clock)
    await slow.collect()
    assert s.path.exists()
    assert await s.rows() == [(True, False)]


async def test_the_late_end_of_a_deletion_leaves_the_next_ones_row(s: Shelf) -> None:
    """Otherwise the file could be kept while being deleted again."""

    async def meanwhile() -> None:
        s.clock.advance(3_600_000)
        now, until = s.clock.now(), s.clock.now() + 600_000

        def claim(unit: UnitOfWork) -> tuple[int, list[str]]:
            return blob_store.claim_unreferenced(unit.connection, now=now, until=until, limit=10)

        assert await s.writer.run(claim) == (1, [HASH])

    await s.keep()
    s.clock.advance(RESERVED_MS + 1)
    store = _SlowStore(s.store, meanwhile, after=original_key(HASH))
    await Blobs(database=s.database, writer=s.writer, store=store, clock=s.clock).collect()
    assert await s.rows() == [(True, True)]
    with pytest.raises(BlobBeingDeleted):
        await s.keep()


async def test_a_deleter_killed_before_deleting_the_row_does_no_harm(s: Shelf) -> None:
    await s.keep()
    s.path.unlink()
    s.clock.advance(RESERVED_MS + 1)
    assert await s.blobs.collect() == 1
    assert await s.rows() == []


async def test_old_files_without_a_row_are_found_and_collected(s: Shelf) -> None:
    s.clock.to_now()
    await s.keep()
    await s.show()
    strays = [hashlib.sha256(bytes([n])).hexdigest() for n in range(3)]
    for hash_ in strays:
        await s.store.put(original_key(hash_), b"x")
    old = s.clock.now() / 1000 - 7200
    for hash_ in strays[:2]:
        os.utime(s.directory / "images" / original_key(hash_), (old, old))
    os.utime(s.path, (old, old))
    stranger = s.directory / "images" / strays[0][:2] / "readme.txt"
    stranger.write_text("not ours")
    os.utime(stranger, (old, old))
    search = OrphanFinder(database=s.database, writer=s.writer, store=s.store, clock=s.clock)
    found = [await search.adopt() for _ in range(260)]
    assert sum(found) == 2
    assert await s.blobs.collect() == 2
    left = [path.name for path in (s.directory / "images").rglob("*") if path.is_file()]
    assert sorted(left) == sorted([HASH, strays[2], "readme.txt", "owner"])


async def test_files_in_another_services_store_are_not_deleted(s: Shelf) -> None:
    s.clock.to_now()
    await s.store.put("owner", b"somebody else")
    await s.store.put(original_key(HASH), CONTENT)
    os.utime(s.path, (0, 0))
    search = OrphanFinder(database=s.database, writer=s.writer, store=s.store, clock=s.clock)
    assert [await search.adopt() for _ in range(3)] == [0, 0, 0]
    assert await s.rows() == []


async def test_a_recovered_store_is_noticed(s: Shelf) -> None:
    s.store.gate.note_failure("full")
    with pytest.raises(Missing):
        await s.store.size("aa/none")
    assert not s.store.is_reachable, "a full disk can be read"
    assert await s.blobs.collect() == 0
    assert s.store.is_reachable


async def test_concurrent_release_and_collection_do_not_leak_the_file(s: Shelf, rival: Blobs) -> None:
    for _ in range(15):
        await s.keep()
        task = await s.show()
        s.clock.advance(RESERVED_MS + 1)
        await asyncio.gather(rival.collect(), s.forget(task), s.blobs.collect(), rival.collect())
        await s.blobs.collect()
        assert not s.path.exists()
        assert await s.rows() == []


async def test_concurrent_keeping_and_collection_never_lose_the_file(s: Shelf, rival: Blobs) -> None:
    async def keep_and_show() -> str | None:
        with suppress(BlobBeingDeleted):
            await s.keep()
            return await s.show()
        return None

    for _ in range(15):
        await s.keep()
        s.clock.advance(RESERVED_MS + 1)
        _, shown, _ = await asyncio.gather(rival.collect(), keep_and_show(), rival.collect())
        await rival.collect()
        if shown is not None:
            assert s.path.exists()
            await s.forget(shown)
            s.clock.advance(RESERVED_MS + 1)
            await s.blobs.collect()
        assert await s.rows() == []


@pytest.fixture
def postgresql_url(postgres: PostgresServer) -> str:
    return postgres.create_database()


async def test_two_processes_that_keep_the_same_images_never_deadlock(postgresql_url: str, tmp_path: Path) -> None:
    contents = [bytes((number,)) * 10 for number in range(8)]
    for content in contents:
        (tmp_path / hashlib.sha256(content).hexdigest()).write_bytes(content)

    async def keep(blobs: Blobs, writer: Writer, content: bytes) -> None:
        hash_ = hashlib.sha256(content).hexdigest()
        await blobs.keep(hash_, tmp_path / hash_, len(content), PICTURE)
        assert await writer.run(lambda unit: refer(unit, hash_), blob=hash_)

    async def work(seed: int) -> None:
        order = random.Random(seed)
        database, clock = Database(postgresql_url), HandClock()
        writer = Writer(database, clock, lambda _: None)
        writer.start()
        blobs = Blobs(database=database, writer=writer, store=open_store(None, tmp_path), clock=clock)
        for _ in range(15):
            some = order.sample(contents, len(contents))
            await asyncio.gather(*(keep(blobs, writer, content) for content in some))
        await writer.aclose()
        await database.aclose()

    await asyncio.gather(work(1), work(2))
    database = Database(postgresql_url)
    count = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert await database.read(lambda connection: connection.execute(text(count)).scalar_one()) == 0
    await database.aclose()
