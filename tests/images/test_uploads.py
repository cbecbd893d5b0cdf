"""The lifetime of uploads and their files."""

from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.db.engine import Database
from app.db.migrate import migrate
from app.domain.blob import original_key
from app.domain.caller import Caller
from app.domain.policy import Policy
from app.domain.upload import REMEMBERED_MS, Upload
from app.errors import (
    InvalidImage,
    InvalidRequest,
    PublicUrlRequired,
    ServiceUnavailable,
    UploadExpired,
    UploadNotFound,
)
from app.images.blobs import RESERVED_MS, Blobs
from app.images.uploads import UploadService
from app.imaging.executor import ImageExecutor
from app.storage.spool import Spool
from app.storage.store import ImageStore, Missing, open_store
from app.writing.writer import Writer
from tests.support.clock import HandClock
from tests.support.images.samples import encode, noise, telling

HOUR = 3_600_000
LIFETIME_MS = 24 * HOUR
BASE = "https://pictures.example"
OWNER = Caller("shop", "user-7")
POLICY = Policy(
    queue_timeout=30 * HOUR, task_timeout=HOUR, poll_after=1, submit_tries=1, hold_retry=1, upstream_timeout=1
)


@dataclass
class Desk:
    uploads: UploadService
    private: UploadService
    """The same service without a public address."""
    blobs: Blobs
    store: ImageStore
    clock: HandClock
    directory: Path

    async def add(self, content: bytes, caller: Caller = OWNER) -> Upload:
        (self.directory / "source").write_bytes(content)
        return await self.uploads.add(caller, self.directory / "source")

    async def is_stored(self, upload: Upload) -> bool:
        assert upload.hash is not None
        try:
            await self.store.size(original_key(upload.hash))
        except Missing:
            return False
        return True

    async def sweep(self) -> None:
        """Sweep like the loop, after the grace period for files."""
        while await self.uploads.sweep():
            pass
        self.clock.advance(RESERVED_MS + 1)
        while await self.blobs.collect():
            pass


def make_uploads(
    database: Database, writer: Writer, blobs: Blobs, clock: HandClock, directory: Path, *, is_public: bool
) -> UploadService:
    return UploadService(
        database=database,
        writer=writer,
        blobs=blobs,
        executor=ImageExecutor(),
        spool=Spool(directory / "spool"),
        clock=clock,
        policy=POLICY,
        base_url=BASE,
        is_public=is_public,
        lifetime=LIFETIME_MS,
        max_bytes=1_000_000,
        daily_bytes=0,
    )


@pytest.fixture
async def desk(database_url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    database, clock = Database(database_url), HandClock()
    await migrate(database)
    writer = Writer(database, clock, lambda _: None)
    writer.start()
    store = open_store(None, tmp_path)
    blobs = Blobs(database=database, writer=writer, store=store, clock=clock)
    uploads, private = (
        make_uploads(database, writer, blobs, clock, tmp_path, is_public=is_public) for is_public in (True, False)
    )
    yield Desk(uploads, private, blobs, store, clock, tmp_path)
    await writer.aclose()
    await database.aclose()


async def test_an_upload_lives_for_a_day_and_is_remembered_for_a_week(desk: Desk) -> None:
    upload = await desk.add(telling("JPEG", 6))
    assert (upload.project, upload.subject) == ("shop", "user-7")
    assert upload.expires_at - upload.created_at == LIFETIME_MS
    found, file = await desk.uploads.find(upload.id)
    assert found == upload
    assert (file.content_type, file.bytes, file.name) == ("image/jpeg", upload.bytes, f"{upload.id}.jpg")

    desk.clock.advance(LIFETIME_MS - 1)
    await desk.sweep()
    assert await desk.is_stored(upload)
    with pytest.raises(UploadExpired):
        await desk.uploads.find(upload.id)
    await desk.sweep()
    assert not await desk.is_stored(upload)
    with pytest.raises(UploadExpired):
        await desk.uploads.find(upload.id)

    desk.clock.advance(REMEMBERED_MS)
    await desk.sweep()
    with pytest.raises(UploadNotFound):
        await desk.uploads.find(upload.id)
    assert list((desk.directory / "spool").iterdir()) == []


async def test_the_same_image_is_stored_once_until_its_last_upload_expires(desk: Desk) -> None:
    first = await desk.add(encode(noise(), "PNG"))
    desk.clock.advance(HOUR)
    second = await desk.add(encode(noise(), "PNG"), Caller("other"))
    assert first.hash == second.hash
    assert first.id != second.id
    desk.clock.advance(LIFETIME_MS - HOUR)
    await desk.sweep()
    assert await desk.is_stored(second)
    await desk.uploads.find(second.id)
    desk.clock.advance(HOUR)
    await desk.sweep()
    await desk.sweep()
    assert not await desk.is_stored(second)


async def test_a_collected_image_can_be_uploaded_again(desk: Desk) -> None:
    first = await desk.add(encode(noise(), "PNG"))
    desk.clock.advance(LIFETIME_MS)
    await desk.sweep()
    await desk.sweep()
    assert not await desk.is_stored(first)
    again = await desk.add(encode(noise(), "PNG"))
    assert again.hash == first.hash
    assert await desk.is_stored(again)


async def test_an_upload_used_by_a_task_lives_as_long_as_the_task_can(desk: Desk) -> None:
    upload = await desk.add(encode(noise(), "PNG"))
    url = desk.uploads.url_of(upload)
    assert url == f"{BASE}/v1/uploads/{upload.id}"
    desk.clock.advance(LIFETIME_MS - 1)
    await desk.uploads.extend_expiry(["https://elsewhere.example/a.png", url, url])
    desk.clock.advance(POLICY.queue_timeout + POLICY.task_timeout)
    await desk.sweep()
    await desk.uploads.find(upload.id)
    assert await desk.is_stored(upload)
    desk.clock.advance(2 * HOUR)
    with pytest.raises(InvalidRequest) as refused:
        await desk.uploads.extend_expiry(["https://elsewhere.example/a.png", url])
    assert [problem["field"] for problem in refused.value.errors] == ["image_urls.1"]


async def test_extending_never_shortens(desk: Desk) -> None:
    upload = await desk.add(encode(noise(), "PNG"))
    url = desk.uploads.url_of(upload)
    await desk.uploads.extend_expiry([url])
    held, _ = await desk.uploads.find(upload.id)
    desk.clock.advance(-5 * HOUR)
    await desk.uploads.extend_expiry([url])
    assert (await desk.uploads.find(upload.id))[0].expires_at == held.expires_at


async def test_unknown_uploads_cannot_be_used(desk: Desk) -> None:
    with pytest.raises(InvalidRequest):
        await desk.uploads.extend_expiry([f"{BASE}/v1/uploads/upl_{'0' * 32}"])
    await desk.uploads.extend_expiry([f"{BASE}/v1/uploads/else", "https://x.example/v1/uploads/upl_" + "0" * 32])


async def test_a_file_that_is_no_image_leaves_nothing(desk: Desk) -> None:
    with pytest.raises(InvalidImage, match="The file is HTML or XML, not a PNG"):
        await desk.add(b"<html>")
    assert not list((desk.directory / "images").glob("??/*"))
    assert list((desk.directory / "spool").iterdir()) == []


async def test_without_a_public_address_nothing_is_accepted(desk: Desk) -> None:
    (desk.directory / "source").write_bytes(encode(noise(), "PNG"))
    with pytest.raises(PublicUrlRequired):
        await desk.private.add(OWNER, desk.directory / "source")
    with pytest.raises(PublicUrlRequired):
        await desk.private.upload_data_uris(OWNER, ["data:image/png;base64,"])


async def test_concurrent_uploads_are_limited(desk: Desk) -> None:
    with ExitStack() as places:
        for _ in range(8):
            places.enter_context(desk.uploads.permit(OWNER))
        with pytest.raises(ServiceUnavailable), desk.uploads.permit(OWNER):
            pass
        for _ in range(56):  # slow senders don't block others
            places.enter_context(desk.uploads.permit(Caller("shop")))
        with pytest.raises(ServiceUnavailable), desk.uploads.permit(Caller("another")):
            pass
    with desk.uploads.permit(OWNER):
        pass
