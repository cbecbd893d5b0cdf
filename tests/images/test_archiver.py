"""Copying images: failures and several processes at once."""

import asyncio
import hashlib
import ipaddress
import resource
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import update

from app.clock import SystemClock
from app.db import batch_store, event_store, image_store, task_store
from app.db.batch_store import Batch
from app.db.engine import Connection, Database
from app.db.migrate import migrate
from app.db.schema import blobs as blob_table
from app.db.schema import images as image_table
from app.db.schema import tasks as task_table
from app.domain.destination import DestinationRules
from app.domain.event import event_of
from app.domain.image import Image, ImageState, new_images
from app.domain.task import Status
from app.errors import ImagePending, ServiceUnavailable, StorageUnavailable
from app.images.archiver import Archiver
from app.images.blobs import Blobs
from app.images.fetcher import ImageFetcher
from app.images.files import ImageFiles
from app.images.service import ImageService
from app.imaging.executor import ImageExecutor
from app.outbound.downloads import Downloads
from app.storage.spool import Spool
from app.storage.store import ImageStore, open_store
from app.tasks.retention import Retention
from app.writing.unit_of_work import UnitOfWork
from app.writing.wake_up import WakeUp
from app.writing.writer import Writer
from tests.support.images.samples import image_bytes
from tests.support.servers.buckets import run_buckets
from tests.support.servers.image_source import Send, Source, reply
from tests.support.tasks import make_task
from tests.support.waiting import until

TASK = "task_" + "0" * 31 + "a"


@pytest.fixture
def source() -> Iterator[Source]:
    with Source() as running:
        yield running


@dataclass
class Process:
    """The parts of a process that copy images."""

    database: Database
    writer: Writer
    image_store: ImageStore
    blobs: Blobs
    archive: Archiver
    spool: Path
    store: Path

    async def run(self) -> None:
        """Fetch all due images once."""
        await asyncio.gather(*(self.archive.fetch(image) for image in await self.archive.claim(16)))

    async def images(self) -> list[Image]:

        def work(connection: Connection) -> list[Image]:
            whole = [image_store.get(connection, image.id) for image in task_store.images_of(connection, [TASK])[TASK]]
            return [image for image in whole if image is not None]

        return await self.database.read(work)

    async def make_due(self) -> None:
        """End all pauses and leases."""
        await self.database.write(
            lambda connection: connection.execute(
                update(image_table).where(image_table.c.state == "pending").values(next_try_at=0)
            )
        )

    async def settled_events(self) -> int:
        """Count the events that report settled images."""
        found = await self.database.read(lambda connection: event_store.of_task(connection, TASK))
        return [event["type"] for event in found].count("task.images_settled")


@asynccontextmanager
async def process(
    database_url: str, directory: Path, *, is_on: bool = True, storage_url: str | None = None
) -> AsyncIterator[Process]:
    database, clock = Database(database_url), SystemClock()
    await migrate(database)
    writer = Writer(database, clock, lambda _: None, keeps_images=is_on)
    writer.start()
    image_store = open_store(storage_url, directory)
    blobs = Blobs(database=database, writer=writer, store=image_store, clock=clock)
    downloads = Downloads(DestinationRules([ipaddress.ip_network("127.0.0.0/8")]))
    executor = ImageExecutor()
    archive = Archiver(
        database=database,
        writer=writer,
        fetcher=ImageFetcher(
            blobs=blobs,
            downloads=downloads,
            executor=executor,
            spool=Spool(directory / "tmp"),
            is_on=is_on,
            max_bytes=1_000_000,
        ),
        clock=clock,
        wake_up=WakeUp(),
    )
    try:
        yield Process(database, writer, image_store, blobs, archive, directory / "tmp", directory / "images")
    finally:
        await writer.aclose()
        await downloads.aclose()
        executor.close()
        await database.aclose()


async def succeed(one: Process, *urls: str) -> list[str]:
    """Create a succeeded task with images; return their ids."""
    task = make_task(id=TASK, status=Status.SUCCEEDED, completed_at=1, deadline_at=None)
    made = new_images(TASK, urls, is_kept=True, now=0)

    def write(unit: UnitOfWork) -> None:
        batch_store.write(unit.connection, Batch(created=[make_task(id=TASK)]))
        batch_store.write(unit.connection, Batch(changed=[task], images=made))
        unit.events.append(event_of(task, images_follow=True))

    await one.writer.run(write)
    return [image.id for image in made]


async def test_two_processes_settle_the_images_of_a_task_and_report_it_once(
    database_url: str, source: Source, tmp_path: Path
) -> None:
    urls = [source.on(f"/{n}.png", reply(image_bytes(seed=n % 2, width=8, height=8))) for n in range(4)]
    async with process(database_url, tmp_path) as one, process(database_url, tmp_path) as two:
        await succeed(one, *urls)
        first, second = await one.archive.claim(2), await two.archive.claim(16)
        assert sorted(len(claimed) for claimed in (first, second)) == [2, 2]
        # Once the leases end, each process also takes the images that the other is fetching.
        await one.make_due()
        both = [(one, image) for image in [*first, *await one.archive.claim(16)]]
        await one.make_due()
        both += [(two, image) for image in [*second, *await two.archive.claim(16)]]
        assert len(both) == 8
        await asyncio.gather(*(own.archive.fetch(image) for own, image in both))
        images = await one.images()
        assert {image.state for image in images} == {ImageState.STORED}
        assert await one.settled_events() == 1
        assert len([path for path in one.store.glob("??/*") if path.is_file()]) == 2
    assert list((tmp_path / "tmp").iterdir()) == []


async def test_copies_are_written_to_a_bucket_and_read_from_it(
    source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = image_bytes(width=600, height=400)
    with run_buckets() as buckets:
        for name, value in buckets.environment.items():
            monkeypatch.setenv(name, value)
        place = f"s3://{buckets.make('pictures')}/prefix"
        async with process(f"sqlite:///{tmp_path / 'test.db'}", tmp_path, storage_url=place) as one:
            (image_id,) = await succeed(one, source.on("/a.png", reply(content)))
            await one.run()
            source.close()
            file = await ImageService(
                database=one.database, archiver=one.archive, store=one.image_store, clock=SystemClock()
            ).find(image_id)
            files = ImageFiles(store=one.image_store, executor=ImageExecutor(), spool=Spool(one.spool))
            assert b"".join([chunk async for chunk in await files.open(file, 0, file.bytes)]) == content
            assert b"".join([chunk async for chunk in await files.open(file, 10, 20)]) == content[10:20]
            small = await files.thumbnail(file, 256)
            hash_ = hashlib.sha256(content).hexdigest()
            key = f"prefix/{hash_[:2]}/{hash_}"
            assert small[8:12] == b"WEBP"
            assert buckets.sizes("pictures") == {key: len(content), f"{key}.w256.webp": len(small)}
            await one.writer.run(lambda unit: unit.remove_tasks([TASK]))
            await one.database.write(lambda connection: connection.execute(update(blob_table).values(check_at=0)))
            assert await one.blobs.collect() == 1
            assert buckets.sizes("pictures") == {}


async def test_the_late_end_of_a_fetch_does_not_free_the_next(
    database_url: str, source: Source, tmp_path: Path
) -> None:
    asked, gate = threading.Event(), threading.Event()

    def fail_late(send: Send) -> None:
        asked.set()
        gate.wait(15)
        send(reply(b"", status="503 Later"))

    async with process(database_url, tmp_path) as one, process(database_url, tmp_path) as two:
        (image_id,) = await succeed(one, source.on("/a.png", fail_late))
        fetching = asyncio.create_task(one.run())
        await asyncio.to_thread(asked.wait, 15)
        await one.make_due()
        assert await one.archive.claim(1) == [], "in hand, whatever the lease says"
        assert await one.archive.claim_out_of_turn(image_id) is None
        (claimed,) = await two.archive.claim(1)
        gate.set()
        await fetching
        (image,) = await one.images()
        assert (image.claimed_by, image.tries) == (claimed.claimed_by, 0)
        assert await one.archive.claim_out_of_turn(image_id) is None


def break_store(one: Process) -> None:
    shutil.rmtree(one.store)
    one.store.write_text("not a directory")


def repair_store(one: Process) -> None:
    one.store.unlink()
    one.store.mkdir()


async def test_what_is_downloaded_is_kept_until_the_store_is_back(
    database_url: str, source: Source, tmp_path: Path
) -> None:
    urls = [source.on(f"/{n}.png", reply(image_bytes(seed=n))) for n in range(3)]
    async with process(database_url, tmp_path) as one, process(database_url, tmp_path / "two") as two:
        one.image_store.gate.first_pause_seconds = 0.01
        one.archive.renew_seconds = 0.01
        await succeed(one, *urls)
        break_store(one)
        running = asyncio.create_task(one.run())
        await asyncio.to_thread(source.wait_for_count, 3)
        gate = one.image_store.gate
        await asyncio.to_thread(until, lambda: not gate.is_open and gate.is_awaited)
        source.answers.clear()
        # The lease is renewed however long it takes, so that no other process takes over.
        await one.make_due()
        while min(image.next_try_at or 0 for image in await one.images()) == 0:  # noqa: ASYNC110 -- no event signals it
            await asyncio.sleep(0.01)
        assert await two.archive.claim(16) == []
        assert not running.done()
        assert not one.image_store.is_reachable
        repair_store(one)
        await running
        assert [(image.state, image.tries) for image in await one.images()] == [(ImageState.STORED, 0)] * 3
        assert one.image_store.is_reachable
        assert len(source.asked) == 3, "each was downloaded once"
        assert list(one.spool.iterdir()) == []


async def test_an_image_requested_while_the_store_is_away_is_not_downloaded(source: Source, tmp_path: Path) -> None:
    async with process(f"sqlite:///{tmp_path / 'test.db'}", tmp_path) as one:
        (image_id,) = await succeed(one, source.on("/a.png", reply(image_bytes())))
        images = ImageService(database=one.database, archiver=one.archive, store=one.image_store, clock=SystemClock())
        one.image_store.gate.note_failure("away")
        with pytest.raises(StorageUnavailable):
            await images.find(image_id)
        assert source.asked == []
        one.image_store.gate.note_success()
        assert (await images.find(image_id)).bytes == len(image_bytes())
        await images.aclose()


async def test_a_full_disk_uses_up_no_try_of_the_source(database_url: str, source: Source, tmp_path: Path) -> None:
    content = image_bytes(width=700, height=400)
    async with process(database_url, tmp_path) as one:
        gate = one.archive.fetcher.spool.gate
        gate.first_pause_seconds = 0.01
        await succeed(one, *(source.on(f"/{n}.png", reply(content)) for n in range(3)))
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        # Larger than the database on SQLite: writing more to a file fails as on a full disk.
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, before[1]))
        try:
            running = asyncio.create_task(one.run())
            # The first three at once, then one by one.
            await asyncio.to_thread(source.wait_for_count, 5)
            assert not gate.is_open
            images = await one.images()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert {(image.state, image.tries) for image in images} == {(ImageState.PENDING, 0)}
        await running
        assert gate.is_open
        assert {image.state for image in await one.images()} == {ImageState.STORED}


async def test_a_dead_source_does_not_leave_temporary_storage_closed(source: Source, tmp_path: Path) -> None:
    async with process(f"sqlite:///{tmp_path / 'test.db'}", tmp_path) as one:
        gate = one.archive.fetcher.spool.gate
        gate.first_pause_seconds = 0.01
        await succeed(one, source.on("/a.png", reply(b"", status="404 Not Found")))
        gate.note_failure("full")
        await one.run()
        assert gate.is_open


async def test_temporary_files_that_cannot_be_created_cause_no_download(source: Source, tmp_path: Path) -> None:
    async with process(f"sqlite:///{tmp_path / 'test.db'}", tmp_path) as one:
        gate = one.archive.fetcher.spool.gate
        gate.first_pause_seconds = 0.01
        await succeed(one, source.on("/a.png", reply(image_bytes())))
        one.spool.write_text("in the way")
        running = asyncio.create_task(one.run())
        await asyncio.to_thread(until, lambda: not gate.is_open)
        assert source.asked == []
        one.spool.unlink()
        await running
        assert [image.state for image in await one.images()] == [ImageState.STORED]


async def test_a_temporary_file_that_is_gone_is_downloaded_again(source: Source, tmp_path: Path) -> None:
    async with process(f"sqlite:///{tmp_path / 'test.db'}", tmp_path) as one:
        one.image_store.gate.first_pause_seconds = 0.01
        await succeed(one, source.on("/a.png", reply(image_bytes())))
        break_store(one)
        running = asyncio.create_task(one.run())
        await asyncio.to_thread(until, lambda: not one.image_store.gate.is_open)
        shutil.rmtree(one.spool)
        await running
        (image,) = await one.images()
        assert (image.state, image.tries, image.claimed_by) == (ImageState.PENDING, 0, None)
        repair_store(one)
        await one.make_due()
        await one.run()
        assert [image.state for image in await one.images()] == [ImageState.STORED]


async def test_an_interrupted_fetch_is_due_again_at_once(database_url: str, source: Source, tmp_path: Path) -> None:
    asked, gate = threading.Event(), threading.Event()

    def gated(send: Send) -> None:
        asked.set()
        gate.wait(15)

    async with process(database_url, tmp_path) as one, process(database_url, tmp_path) as two:
        await succeed(one, source.on("/a.png", gated))
        (claimed,) = await one.archive.claim(1)
        fetching = asyncio.create_task(one.archive.fetch(claimed))
        await asyncio.to_thread(asked.wait, 15)
        assert await two.archive.claim(1) == []
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)
        (image,) = await two.archive.claim(1)
        assert (image.id, image.tries) == (claimed.id, 0)
        assert list(one.spool.iterdir()) == []
        gate.set()


async def test_without_copies_pending_images_are_settled_without_a_request(
    database_url: str, source: Source, tmp_path: Path
) -> None:
    async with process(database_url, tmp_path, is_on=False) as one:
        await succeed(one, source.on("/a.png", reply(image_bytes())))
        await one.run()
        (image,) = await one.images()
        assert (image.state, image.reason) == (ImageState.UNAVAILABLE, "not_kept")
        assert await one.settled_events() == 1
        assert source.asked == []


async def test_an_image_that_another_process_fetches_is_waited_for(source: Source, tmp_path: Path) -> None:
    asked, gate = threading.Event(), threading.Event()
    content = image_bytes()

    def gated(send: Send) -> None:
        asked.set()
        gate.wait(15)
        send(reply(content))

    url = f"sqlite:///{tmp_path / 'test.db'}"
    async with process(url, tmp_path) as one, process(url, tmp_path) as two:
        (image_id,) = await succeed(one, source.on("/a.png", gated))
        fetching = asyncio.gather(*(one.archive.fetch(image) for image in await one.archive.claim(1)))
        await asyncio.to_thread(asked.wait, 15)
        images = ImageService(database=two.database, archiver=two.archive, store=two.image_store, clock=SystemClock())
        finding = asyncio.create_task(images.find(image_id))
        await asyncio.sleep(0)
        gate.set()
        await fetching
        assert (await finding).sha256 == hashlib.sha256(content).hexdigest()
        assert len(source.asked) == 1
        await images.aclose()


async def test_a_task_deleted_while_its_image_is_fetched_leaves_nothing(
    database_url: str, source: Source, tmp_path: Path
) -> None:
    async with process(database_url, tmp_path) as one:
        await succeed(one, source.on("/a.png", reply(image_bytes())))
        (claimed,) = await one.archive.claim(1)
        await one.database.write(lambda connection: task_store.remove(connection, [TASK]))
        await one.archive.fetch(claimed)
        assert await one.database.read(partial(image_store.get, image_id=claimed.id)) is None


async def test_old_tasks_are_deleted_with_their_images_and_recent_or_busy_ones_stay(
    database_url: str, source: Source, tmp_path: Path
) -> None:
    day = 86_400_000
    async with process(database_url, tmp_path) as one:
        await succeed(one, source.on("/a.png", reply(image_bytes())))
        now = SystemClock().now()
        old, young = now - 3 * day, now - day
        ended = {"status": Status.FAILED, "deadline_at": None}
        others = {
            "young": make_task(id="task_" + "b" * 32, completed_at=young, **ended),
            "asked about": make_task(id="task_" + "0" * 31 + "c", completed_at=old, ask_at=now, **ended),
            "queued": make_task(id="task_" + "0" * 31 + "d"),
            "old": make_task(id="task_" + "0" * 31 + "e", completed_at=old, **ended),
        }

        def write(unit: UnitOfWork) -> None:
            batch_store.write(unit.connection, Batch(created=list(others.values())))
            ended = [task for name, task in others.items() if name != "queued"]
            batch_store.write(unit.connection, Batch(changed=ended))

        await one.writer.run(write)
        retention = Retention(database=one.database, writer=one.writer, clock=SystemClock(), days=2)

        async def left() -> set[str]:
            return await one.database.read(
                lambda connection: set(task_store.get_all(connection, [TASK, *(task.id for task in others.values())]))
            )

        assert await retention.remove_old() == 0
        # The task with a pending image stays until the image is fetched.
        assert await left() == {TASK, *(others[name].id for name in ("young", "asked about", "queued"))}
        await one.run()
        (image,) = await one.images()
        assert image.state is ImageState.STORED
        await retention.remove_old()
        assert TASK not in await left()
        assert await one.database.read(partial(image_store.get, image_id=image.id)) is None
        await one.database.write(lambda connection: connection.execute(update(task_table).values(ask_at=None)))
        await retention.remove_old()
        assert await left() == {others[name].id for name in ("young", "queued")}
        assert await Retention(database=one.database, writer=one.writer, clock=SystemClock(), days=0).remove_old() == 0


async def test_requests_waiting_for_an_image_end_when_the_service_stops(source: Source, tmp_path: Path) -> None:
    asked, gate = threading.Event(), threading.Event()

    def gated(send: Send) -> None:
        asked.set()
        gate.wait(15)

    async with process(f"sqlite:///{tmp_path / 'test.db'}", tmp_path) as one:
        (image_id,) = await succeed(one, source.on("/a.png", gated))
        images = ImageService(database=one.database, archiver=one.archive, store=one.image_store, clock=SystemClock())
        finding = asyncio.create_task(images.find(image_id))
        await asyncio.to_thread(asked.wait, 15)
        images.stop()
        with pytest.raises(ImagePending):
            await finding
        with pytest.raises(ServiceUnavailable):
            await images.find(image_id)
        await images.aclose()
        (image,) = await one.archive.claim(1)
        assert (image.id, image.tries) == (image_id, 0)
        gate.set()


async def test_an_image_is_fetched_even_if_its_requests_disconnect(source: Source, tmp_path: Path) -> None:
    asked, gate = threading.Event(), threading.Event()

    def gated(send: Send) -> None:
        asked.set()
        gate.wait(15)
        send(reply(image_bytes()))

    async with process(f"sqlite:///{tmp_path / 'test.db'}", tmp_path) as one:
        (image_id,) = await succeed(one, source.on("/a.png", gated))
        images = ImageService(database=one.database, archiver=one.archive, store=one.image_store, clock=SystemClock())
        leaving: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        finding = asyncio.create_task(images.find(image_id, leaving))
        await asyncio.to_thread(asked.wait, 15)
        leaving.set_result(None)
        with pytest.raises(ImagePending):
            await finding
        done = one.archive.under_way(image_id)
        assert done is not None
        gate.set()
        await done.wait()
        (image,) = await one.images()
        assert image.state is ImageState.STORED
        await images.aclose()
