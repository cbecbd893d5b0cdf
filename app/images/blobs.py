"""Files in the store, kept under their hash as long as anything refers to them.

A file is put only after its row was reserved, and its row goes only after the file: a crash at any moment leaves a row
that is looked at again, never a file that nobody knows of. What refers to a file locks its row (`db.blobs`).
"""

from contextlib import suppress
from pathlib import Path

import structlog

from app.clock import Clock
from app.db import blob_store
from app.db.blob_store import Blob
from app.db.engine import Database
from app.domain.blob import keys_of, original_key
from app.errors import StorageUnavailable
from app.imaging.inspect import ImageInfo
from app.storage.store import ImageStore, Missing
from app.writing.unit_of_work import UnitOfWork
from app.writing.writer import Writer

RESERVED = 10 * 60_000
"""For how many milliseconds a file may be on its way to the store and its row unreferenced."""
_LEASE = 10 * 60_000
# Longer than the store takes to delete one file, with all its tries.
_LEASE_MARGIN = 60_000
_COLLECTED_AT_ONCE = 50
_NO_KEY = "incoming/none"
_log = structlog.get_logger(__name__)


class BlobGoing(StorageUnavailable):
    """The same file is being deleted at this moment; it can be kept again right after."""


class Blobs:
    """Keeps and collects files."""

    def __init__(self, *, database: Database, writer: Writer, store: ImageStore, clock: Clock) -> None:
        self._database = database
        self._writer = writer
        self._store = store
        self._clock = clock

    @property
    def is_reachable(self) -> bool:
        """Whether the store worked when it was last used."""
        return self._store.is_reachable

    async def keep(self, sha256: str, path: Path, size: int, picture: ImageInfo) -> None:
        """Put a file of `size` bytes into the store; what shall refer to it has `RESERVED` ms to do so (`refer`).

        Raises `BlobGoing`, `StorageUnavailable` and `ServiceUnavailable`.
        """
        blob = Blob(
            hash=sha256, content_type=picture.content_type, bytes=size, width=picture.width, height=picture.height
        )

        def reserve(unit: UnitOfWork) -> bool:
            return blob_store.reserve(unit.connection, blob, now=unit.now, until=unit.now + RESERVED)

        if not await self._writer.run(reserve, blob=sha256):
            raise BlobGoing("The same picture is being deleted right now.", retry_after=1)
        await self._store.put(original_key(sha256), path)

    async def collect(self) -> int:
        """Delete one batch of files that nothing refers to any more; returns how many were looked at.

        While the store is away nothing is done: they are looked at again later.
        """
        if not self._store.is_reachable:
            # Otherwise its recovery would only be noticed when something is to be stored.
            with suppress(Missing, StorageUnavailable):
                await self._store.size(_NO_KEY)
        now = self._clock.now()
        if not await self._database.read(lambda connection: blob_store.is_any_due(connection, now=now)):
            return 0

        until = now + _LEASE

        def take(unit: UnitOfWork) -> tuple[int, list[str]]:
            return blob_store.claim_unreferenced(unit.connection, now=unit.now, until=until, limit=_COLLECTED_AT_ONCE)

        looked_at, going = await self._writer.run(take)
        if going:
            try:
                deleted = await self._delete(going, until - _LEASE_MARGIN)
            except StorageUnavailable as error:
                _log.warning("files_wait", files=len(going), reason=error.detail)
                return 0
            await self._writer.run(lambda unit: blob_store.remove(unit.connection, deleted))
            _log.info("files_deleted", files=len(deleted))
        return looked_at

    async def _delete(self, hashes: list[str], before: int) -> list[str]:
        """Delete files until a moment past which others may have done so, and kept them again; returns which are gone."""
        deleted: list[str] = []
        for sha256 in hashes:
            for key in keys_of(sha256):
                if self._clock.now() >= before:
                    return deleted
                await self._store.delete(key)
            deleted.append(sha256)
        return deleted


def refer(unit: UnitOfWork, sha256: str) -> bool:
    """Lock a kept file's row, so that a row that refers to it can be written in this transaction.

    False if the file was collected meanwhile, because more than `RESERVED` ms passed: keep it again. The writer is to be
    told which `blob` it is.
    """
    return blob_store.lock(unit.connection, sha256)
