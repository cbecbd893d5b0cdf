"""Uploaded input images, stripped of metadata and kept temporarily."""

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
from app.domain.caller import Caller
from app.domain.data_uri import BadDataUri, decode, is_data_uri
from app.domain.policy import Policy
from app.domain.quota import Quota, of_upload
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
from app.images.blobs import BlobBeingDeleted, Blobs, refer
from app.images.files import ServedFile
from app.imaging.executor import ImageExecutor
from app.imaging.inspect import ImageInfo
from app.imaging.layout import BadImage
from app.storage.spool import Spool
from app.writing.quotas import charge
from app.writing.unit_of_work import UnitOfWork
from app.writing.writer import Writer

# Each uses temporary files, and waits for one of the few threads that process images.
_MAX_CONCURRENT = 64
_MAX_CONCURRENT_PER_SUBJECT = 8
_SWEEP_BATCH_SIZE = 100
_KEEP_ATTEMPTS = 5
_KEEP_PAUSE_SECONDS = 0.5
# A task may end a little after its timeouts, such as during a submit or a database outage.
_MARGIN_MS = 3_600_000
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Clean:
    """A stripped and checked file, ready to be stored."""

    path: Path
    sha256: str
    bytes: int
    info: ImageInfo


@dataclass(eq=False, kw_only=True)
class UploadService:
    """Stores, finds and expires uploads.

    `is_public` says whether the upstream can fetch from `base_url`.
    """

    database: Database
    writer: Writer
    blobs: Blobs
    executor: ImageExecutor
    spool: Spool
    clock: Clock
    policy: Policy
    base_url: str
    is_public: bool
    lifetime: int
    max_bytes: int
    daily_bytes: int

    def __post_init__(self) -> None:
        self._hold_for = self.policy.queue_timeout + self.policy.task_timeout + _MARGIN_MS
        self._busy: Counter[tuple[str, str | None]] = Counter()

    def seconds_left(self, upload: Upload) -> int:
        """Return the seconds until an upload expires."""
        return max((upload.expires_at - self.clock.now()) // 1000, 0)

    def check_public(self) -> None:
        """Raise `PublicUrlRequired` if the upstream can't fetch uploads."""
        if not self.is_public:
            raise PublicUrlRequired("The upstream can't fetch uploads from this service; set PUBLIC_BASE_URL.")

    @contextlib.contextmanager
    def permit(self, caller: Caller) -> Iterator[None]:
        """Limit concurrent requests with uploads.

        Slow clients hold permits for a long time, so each subject gets only some. Raises `ServiceUnavailable` if all
        are in use.
        """
        subject = (caller.project, caller.subject)
        limit = _MAX_CONCURRENT if caller.subject is None else _MAX_CONCURRENT_PER_SUBJECT
        if self._busy.total() >= _MAX_CONCURRENT or self._busy[subject] >= limit:
            raise ServiceUnavailable("Too many images are being uploaded right now; try again.")
        self._busy[subject] += 1
        try:
            yield
        finally:
            self._busy[subject] -= 1
            if not self._busy[subject]:
                del self._busy[subject]

    async def check_quota(self, caller: Caller, size: int = 1) -> None:
        """Check an upload of `size` bytes against the caller's quotas.

        Raises `TokenExhausted` or `DailyUploadsExceeded`.
        """
        quotas = self._quotas(caller, size)
        used = await self.database.read(lambda connection: quota_store.used(connection, [q.name for q in quotas]))
        for quota in quotas:
            if quota.is_exceeded(used.get(quota.name, 0)):
                raise quota.refusal(self.clock.now())

    def _quotas(self, caller: Caller, size: int) -> list[Quota]:
        return of_upload(
            caller.token,
            caller.project,
            size,
            self.clock.now(),
            max_bytes=self.max_bytes,
            daily_bytes=self.daily_bytes,
        )

    async def add(self, caller: Caller, source: Path) -> Upload:
        """Store the image in a file, without personal metadata.

        Raises `PublicUrlRequired`, `InvalidImage`, `TokenExhausted`, `DailyUploadsExceeded`, `StorageUnavailable` and
        `ServiceUnavailable`.
        """
        self.check_public()
        with self.spool.file() as path:
            try:
                clean = await self._clean(source, path)
            except BadImage as bad:
                raise InvalidImage(f"The file {bad.reason}.") from None
            return await self._keep(caller, clean)

    async def identify(self, urls: Sequence[str]) -> list[str]:
        """Replace data URIs with their hashes, for idempotent requests.

        Raises `PublicUrlRequired`, and `InvalidRequest` for invalid ones.
        """
        self.check_public()
        identity = list(urls)
        for position, uri in enumerate(urls):
            if is_data_uri(uri):
                try:
                    identity[position] = f"sha256:{await asyncio.to_thread(_hash, uri)}"
                except BadDataUri as bad:
                    raise InvalidRequest.field(f"image_urls.{position}", str(bad)) from None
        return identity

    async def upload_data_uris(self, caller: Caller, urls: Sequence[str]) -> list[str]:
        """Replace data URIs with URLs of uploads.

        Stores all of them or none. Raises the same errors as `add`, `BodyTooLarge` for their total size, and
        `InvalidRequest` for invalid ones.
        """
        self.check_public()
        await self.check_quota(caller)
        result, bytes_left = list(urls), self.max_bytes
        with contextlib.ExitStack() as files:
            ready: list[tuple[int, _Clean]] = []
            for position, uri in enumerate(urls):
                if not is_data_uri(uri):
                    continue
                source, path = files.enter_context(self.spool.file()), files.enter_context(self.spool.file())
                try:
                    bytes_left -= await asyncio.to_thread(_unpack, uri, source, bytes_left)
                    ready.append((position, await self._clean(source, path)))
                except (BadDataUri, BadImage) as bad:
                    raise InvalidRequest.field(f"image_urls.{position}", str(bad)) from None
            for position, clean in ready:
                result[position] = url_of((await self._keep(caller, clean)).id, self.base_url)
        return result

    def url_of(self, upload: Upload) -> str:
        """Return an upload's URL."""
        return url_of(upload.id, self.base_url)

    async def find(self, upload_id: str) -> tuple[Upload, ServedFile]:
        """Return an upload and its file.

        Raises `UploadNotFound` and `UploadExpired`.
        """
        upload = await self.database.read(lambda connection: upload_store.get(connection, upload_id))
        if upload is None:
            raise UploadNotFound("No upload has this ID.")
        if upload.hash is None or upload.expires_at <= self.clock.now():
            raise UploadExpired("The upload has expired.")
        name = f"{upload.id}.{EXTENSIONS.get(upload.content_type, 'bin')}"
        return upload, ServedFile(upload.hash, upload.content_type, upload.bytes, name)

    async def extend_expiry(self, urls: Sequence[str]) -> None:
        """Keep a new task's uploads while the task can run.

        Raises `InvalidRequest` if one has expired.
        """
        named = named_in(urls, self.base_url)
        if not named:
            return

        def work(unit: UnitOfWork) -> set[str]:
            until = unit.now + self._hold_for
            return upload_store.extend_expiry(unit.connection, named.values(), now=unit.now, until=until)

        found = await self.writer.run(work)
        message = "refers to an upload that has expired or does not exist"
        problems = [
            {"field": f"image_urls.{position}", "message": message}
            for position, upload_id in named.items()
            if upload_id not in found
        ]
        if problems:
            raise InvalidRequest(problems)

    async def sweep(self) -> int:
        """Expire one batch of uploads; returns how many."""

        def work(unit: UnitOfWork) -> int:
            expired = upload_store.release_expired(unit.connection, now=unit.now, limit=_SWEEP_BATCH_SIZE)
            before = unit.now - REMEMBERED_MS
            return expired + upload_store.remove_expired(unit.connection, before=before, limit=_SWEEP_BATCH_SIZE)

        return await self.writer.run(work)

    async def _clean(self, source: Path, path: Path) -> _Clean:
        """Strip and check a file; raises `BadImage`."""
        await self.executor.strip(source, path)
        info = await self.executor.inspect(path)
        sha256, size = await asyncio.to_thread(_digest, path)
        return _Clean(path, sha256, size, info)

    async def _keep(self, caller: Caller, clean: _Clean) -> Upload:
        # Charged below. A file rejected only then stays in the store until it is collected.
        await self.check_quota(caller, clean.bytes)
        now, quotas = self.clock.now(), self._quotas(caller, clean.bytes)
        upload = Upload(
            id=new_upload_id(),
            project=caller.project,
            subject=caller.subject,
            hash=clean.sha256,
            content_type=clean.info.content_type,
            bytes=clean.bytes,
            width=clean.info.width,
            height=clean.info.height,
            created_at=now,
            expires_at=now + self.lifetime,
        )
        for is_last in (*[False] * (_KEEP_ATTEMPTS - 1), True):
            try:
                await self.blobs.keep(clean.sha256, clean.path, clean.bytes, clean.info)
                if await self.writer.run(partial(_insert, upload, quotas), blob=clean.sha256):
                    break
            except BlobBeingDeleted:
                # The last reference to the same image was just removed; its file will be gone in a moment.
                if is_last:
                    raise
                await asyncio.sleep(_KEEP_PAUSE_SECONDS)
        else:
            raise BlobBeingDeleted("The same image is being deleted right now; try again.", retry_after=1)
        _log.info("upload_stored", upload_id=upload.id, project=upload.project, bytes=upload.bytes)
        return upload


def _insert(upload: Upload, quotas: Sequence[Quota], unit: UnitOfWork) -> bool:
    """Add the row and charge quotas; False without the file."""
    if upload.hash is None or not refer(unit, upload.hash):
        return False
    if refused := charge(unit, {upload.id: quotas}):
        raise refused[upload.id]
    upload_store.add(unit.connection, upload)
    return True


def _hash(uri: str) -> str:
    digest = hashlib.sha256()
    for part in decode(uri):
        digest.update(part)
    return digest.hexdigest()


def _unpack(uri: str, into: Path, max_bytes: int) -> int:
    """Write a data URI's content to a file.

    Returns its size. Raises `BodyTooLarge`.
    """
    count = 0
    with into.open("wb") as file:
        for part in decode(uri):
            count += len(part)
            if count > max_bytes:
                raise BodyTooLarge("The images in image_urls together exceed MAX_UPLOAD_BYTES.")
            file.write(part)
    return count


def _digest(path: Path) -> tuple[str, int]:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
