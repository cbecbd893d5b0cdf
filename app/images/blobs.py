"""Stored files, named by hash and deleted once unreferenced.

A row is added before its file and deleted after it, so a crash may leave a row to check again, but never an unknown
file. References are added and removed with the row locked (`db.blob_store`).
"""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.clock import Clock
from app.db import blob_store
from app.db.blob_store import Blob
from app.db.engine import Database
from app.domain.blob import keys_of, original_key
from app.errors import ServiceUnavailable, StorageUnavailable
from app.imaging.inspect import ImageInfo
from app.storage.store import ImageStore
from app.writing.unit_of_work import UnitOfWork
from app.writing.writer import Writer

RESERVED_MS = 10 * 60_000
"""How long a file may be unreferenced while it is stored."""
_LEASE_MS = 10 * 60_000
# More than the store takes to delete one file, with all retries.
_LEASE_MARGIN_MS = 60_000
_BATCH_SIZE = 50
_log = structlog.get_logger(__name__)


class BlobBeingDeleted(ServiceUnavailable):
    """The same file is being deleted; retry in a moment."""


@dataclass(eq=False, kw_only=True)
class Blobs:
    """Keeps and collects files."""

    database: Database
    writer: Writer
    store: ImageStore
    clock: Clock

    async def keep(self, sha256: str, path: Path, size: int, info: ImageInfo) -> None:
        """Store a file of `size` bytes.

        It is deleted unless `refer` is called within `RESERVED_MS`. Raises `BlobBeingDeleted`, `StorageUnavailable` and
        `ServiceUnavailable`.
        """
        blob = Blob(hash=sha256, content_type=info.content_type, bytes=size, width=info.width, height=info.height)

        def reserve(unit: UnitOfWork) -> bool:
            return blob_store.reserve(unit.connection, blob, now=unit.now, until=unit.now + RESERVED_MS)

        if not await self.writer.run(reserve, blob=sha256):
            raise BlobBeingDeleted("The same image is being deleted right now; try again.", retry_after=1)
        await self.store.put(original_key(sha256), path)

    async def collect(self) -> int:
        """Delete unreferenced files; returns how many were checked.

        Checks one batch. While the store is unavailable, nothing is deleted, and the files are checked again later.
        """
        if not self.store.is_reachable and not self.store.gate.is_awaited:
            # Otherwise only the next write would notice its recovery.
            with suppress(StorageUnavailable):
                await self.store.probe()
        now = self.clock.now()
        if not await self.database.read(lambda connection: blob_store.is_any_due(connection, now=now)):
            return 0

        until = now + _LEASE_MS

        def take(unit: UnitOfWork) -> tuple[int, list[str]]:
            return blob_store.claim_unreferenced(unit.connection, now=unit.now, until=until, limit=_BATCH_SIZE)

        checked, going = await self.writer.run(take)
        if going:
            try:
                deleted = await self._delete(going, until - _LEASE_MARGIN_MS)
            except StorageUnavailable as error:
                _log.warning("file_deletion_interrupted", files=len(going), reason=error.detail)
                return 0
            await self.writer.run(lambda unit: blob_store.remove(unit.connection, deleted, until=until))
            _log.info("files_deleted", files=len(deleted))
        return checked

    async def _delete(self, hashes: list[str], before: int) -> list[str]:
        """Delete files and return their hashes.

        Stops at `before`, when another process may take over.
        """
        deleted: list[str] = []
        for sha256 in hashes:
            for key in keys_of(sha256):
                if self.clock.now() >= before:
                    return deleted
                await self.store.delete(key)
            deleted.append(sha256)
        return deleted


def refer(unit: UnitOfWork, sha256: str) -> bool:
    """Lock a stored file's row before adding a reference.

    Pass the hash to the writer as `blob`. False if the file was collected after `RESERVED_MS`; keep it again then.
    """
    return blob_store.lock(unit.connection, sha256)
