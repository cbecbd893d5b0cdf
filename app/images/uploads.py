"""Input pictures that clients hand over: cleaned, kept for a while, shown to whoever has the address."""

import asyncio
import contextlib
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from app.clock import Clock
from app.db import quota_store, upload_store
from app.db.engine import Database
from app.domain.blob import EXTENSIONS
from app.domain.browser_token import BrowserToken
from app.domain.caller import Caller
from app.domain.data_uri import BadDataUri, decode, is_data_uri
from app.domain.policy import Policy
from app.domain.quota import of_uploads
from app.domain.upload import REMEMBERED_MS, Upload, named_in, new_upload_id, url_of
from app.errors import (
    BodyTooLarge,
    InvalidImage,
    InvalidRequest,
    PublicUrlRequired,
    ServiceUnavailable,
    UploadExpired,
    UploadNotFound,
)
from app.images.blobs import BlobGoing, Blobs, refer
from app.images.files import ServedFile
from app.imaging.executor import ImageExecutor
from app.imaging.inspect import ImageInfo
from app.imaging.layout import BadImage
from app.storage.spool import Spool
from app.writing.quotas import charge
from app.writing.unit_of_work import UnitOfWork
from app.writing.writer import Writer

# Each has a file or some, and waits for one of the few threads that pictures are worked on.
_MOST_AT_ONCE = 64
_MOST_OF_A_SUBJECT = 8
_SWEPT_AT_ONCE = 100
_KEEP_TRIES = 5
_KEEP_PAUSE_SECONDS = 0.5
# A task may end a little later than its times say: submits in flight, a database that was away.
_MARGIN = 3_600_000
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Clean:
    """A file on its way to the store."""

    path: Path
    sha256: str
    bytes: int
    picture: ImageInfo


@dataclass(frozen=True, slots=True)
class TaskImages:
    """A task's input images as addresses, and as what tells whether two requests are the same."""

    urls: list[str]
    identity: list[str]


class UploadService:
    """Takes in, shows and sweeps uploads. `is_public` says whether the upstream can fetch from `base_url`."""

    def __init__(
        self,
        *,
        database: Database,
        writer: Writer,
        blobs: Blobs,
        executor: ImageExecutor,
        spool: Spool,
        clock: Clock,
        policy: Policy,
        base_url: str,
        is_public: bool,
        lifetime: int,
        max_bytes: int,
    ) -> None:
        self.spool = spool
        self.max_bytes = max_bytes
        self._database = database
        self._writer = writer
        self._blobs = blobs
        self._executor = executor
        self._clock = clock
        self._hold_for = policy.queue_timeout + policy.task_timeout + _MARGIN
        self._base_url = base_url
        self._is_public = is_public
        self._lifetime = lifetime
        self._busy: Counter[tuple[str, str | None]] = Counter()

    def seconds_left(self, upload: Upload) -> int:
        """Return for how many seconds an upload can be shown."""
        return max((upload.expires_at - self._clock.now()) // 1000, 0)

    def check_public(self) -> None:
        """Raise `PublicUrlRequired` if the upstream could not fetch what is uploaded."""
        if not self._is_public:
            raise PublicUrlRequired("The upstream can't fetch pictures from here: PUBLIC_BASE_URL is not set.")

    @contextlib.contextmanager
    def permit(self, caller: Caller) -> Iterator[None]:
        """Take in a picture, or those of one request, in this block; raises `ServiceUnavailable` if too many do.

        Who sends slowly holds a place for long: a subject gets only some, so that one page can't hold up all.
        """
        subject = (caller.project, caller.subject)
        most = _MOST_AT_ONCE if caller.subject is None else _MOST_OF_A_SUBJECT
        if self._busy.total() >= _MOST_AT_ONCE or self._busy[subject] >= most:
            raise ServiceUnavailable("Many pictures are being taken in right now.")
        self._busy[subject] += 1
        try:
            yield
        finally:
            self._busy[subject] -= 1
            if not self._busy[subject]:
                del self._busy[subject]

    async def check_quota(self, caller: Caller) -> None:
        """Raise `TokenExhausted` if nothing is left of what a token may upload, before any work is done for it."""
        if caller.token is None:
            return
        wanted = of_uploads(caller.token)
        used = await self._database.read(lambda connection: quota_store.used(connection, [wanted.name]))
        if used.get(wanted.name, 0) >= wanted.limit:
            raise wanted.refusal(self._clock.now())

    async def add(self, caller: Caller, source: Path) -> Upload:
        """Keep the picture in a file, without what it tells about its maker.

        Raises `PublicUrlRequired`, `InvalidImage`, `TokenExhausted`, `StorageUnavailable` and `ServiceUnavailable`.
        """
        self.check_public()
        with self.spool.file() as path:
            try:
                clean = await self._clean(source, path)
            except BadImage as bad:
                raise InvalidImage(f"The file {bad.reason}.") from None
            return await self._keep(caller, clean)

    async def upload_data_uris(self, caller: Caller, urls: Sequence[str]) -> TaskImages:
        """Turn the data URIs among a task's images into uploads, all or none.

        Raises as `add` does, `BodyTooLarge` if they are too many bytes together, and `InvalidRequest` that names
        those that are wrong.
        """
        self.check_public()
        await self.check_quota(caller)
        result, identity, room = list(urls), list(urls), self.max_bytes
        with contextlib.ExitStack() as files:
            ready: list[tuple[int, _Clean]] = []
            for position, uri in enumerate(urls):
                if not is_data_uri(uri):
                    continue
                source, path = files.enter_context(self.spool.file()), files.enter_context(self.spool.file())
                try:
                    count, digest = await asyncio.to_thread(_unpack, uri, source, room)
                    ready.append((position, await self._clean(source, path)))
                except (BadDataUri, BadImage) as bad:
                    problem = {"field": f"image_urls.{position}", "message": str(bad)}
                    raise InvalidRequest("Some fields of the body are invalid.", [problem]) from None
                room -= count
                identity[position] = f"sha256:{digest}"
            for position, clean in ready:
                result[position] = url_of((await self._keep(caller, clean)).id, self._base_url)
        return TaskImages(result, identity)

    def url_of(self, upload: Upload) -> str:
        """Return where an upload is shown."""
        return url_of(upload.id, self._base_url)

    async def find(self, upload_id: str) -> tuple[Upload, ServedFile]:
        """Return an upload to be shown; raises `UploadNotFound` and `UploadExpired`."""
        upload = await self._database.read(lambda connection: upload_store.get(connection, upload_id))
        if upload is None:
            raise UploadNotFound("There is no upload with this id.")
        if upload.hash is None or upload.expires_at <= self._clock.now():
            raise UploadExpired("The upload has expired.")
        name = f"{upload.id}.{EXTENSIONS.get(upload.content_type, 'bin')}"
        return upload, ServedFile(upload.hash, upload.content_type, upload.bytes, name)

    async def extend_expiry(self, urls: Sequence[str]) -> None:
        """See that the uploads that a new task names live as long as it can; raises `InvalidRequest` if one does not."""
        named = named_in(urls, self._base_url)
        if not named:
            return

        def work(unit: UnitOfWork) -> set[str]:
            until = unit.now + self._hold_for
            return upload_store.extend_expiry(unit.connection, named.values(), now=unit.now, until=until)

        held = await self._writer.run(work)
        late = [position for position, upload_id in named.items() if upload_id not in held]
        if late:
            message = "names an upload that has expired or never was"
            problems = [{"field": f"image_urls.{position}", "message": message} for position in late]
            raise InvalidRequest("Some input images are not there any more.", problems)

    async def sweep(self) -> int:
        """Take away one batch of what expired; returns how many there were."""

        def work(unit: UnitOfWork) -> int:
            expired = upload_store.release_expired(unit.connection, now=unit.now, limit=_SWEPT_AT_ONCE)
            before = unit.now - REMEMBERED_MS
            return expired + upload_store.remove_expired(unit.connection, before=before, limit=_SWEPT_AT_ONCE)

        return await self._writer.run(work)

    async def _clean(self, source: Path, path: Path) -> _Clean:
        """Write what stays of a file to a path, and check it; raises `BadImage`."""
        await self._executor.strip(source, path)
        picture = await self._executor.inspect(path)
        sha256, size = await asyncio.to_thread(_digest, path)
        return _Clean(path, sha256, size, picture)

    async def _keep(self, caller: Caller, clean: _Clean) -> Upload:
        now = self._clock.now()
        upload = Upload(
            id=new_upload_id(),
            project=caller.project,
            subject=caller.subject,
            hash=clean.sha256,
            content_type=clean.picture.content_type,
            bytes=clean.bytes,
            width=clean.picture.width,
            height=clean.picture.height,
            created_at=now,
            expires_at=now + self._lifetime,
        )
        for is_last in (*[False] * (_KEEP_TRIES - 1), True):
            try:
                await self._blobs.keep(clean.sha256, clean.path, clean.bytes, clean.picture)
                if await self._writer.run(partial(_insert, upload, caller.token), blob=clean.sha256):
                    break
            except BlobGoing:
                # The same picture's last owner has just gone; its file is away in a moment.
                if is_last:
                    raise
                await asyncio.sleep(_KEEP_PAUSE_SECONDS)
        else:
            raise BlobGoing("The same picture is being deleted right now.", retry_after=1)
        _log.info("upload_kept", upload_id=upload.id, project=upload.project, bytes=upload.bytes)
        return upload


def _insert(upload: Upload, token: BrowserToken | None, unit: UnitOfWork) -> bool:
    """Add the row, and count it for the token that brought it; False if the file was collected meanwhile."""
    if upload.hash is None or not refer(unit, upload.hash):
        return False
    if token is not None and (refused := charge(unit, {upload.id: [of_uploads(token)]})):
        raise refused[upload.id]
    upload_store.add(unit.connection, upload)
    return True


def _unpack(uri: str, into: Path, room: int) -> tuple[int, str]:
    """Write a data URI's content to a file; returns its bytes and their hash. Raises `BodyTooLarge` past `room`."""
    count, digest = 0, hashlib.sha256()
    with into.open("wb") as file:
        for part in decode(uri):
            count += len(part)
            if count > room:
                raise BodyTooLarge("The pictures in image_urls have more bytes together than MAX_IMAGE_BYTES allows.")
            digest.update(part)
            file.write(part)
    return count, digest.hexdigest()


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
