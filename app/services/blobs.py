"""Files in the store, kept under their hash as long as anything refers to them.

A file is put only after its row was reserved, and its row goes only after the file: a crash at any moment leaves a row
that is looked at again, never a file that nobody knows of. What refers to a file locks its row (`db.blobs`).
"""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import structlog

from app.clock import Clock
from app.db import blobs as blob_rows
from app.db.blobs import Blob
from app.db.engine import Database
from app.domain.blob import FOLDERS, keys_of, original_key, sha256_of
from app.errors import StorageUnavailable
from app.imaging.inspect import Picture
from app.services.unit import Unit
from app.services.writer import Writer
from app.storage.store import ImageStore, StoredFile

RESERVED = 10 * 60_000
"""For how many milliseconds a file may be on its way to the store and its row unreferenced."""
_LEASE = 10 * 60_000
_COLLECTED_AT_ONCE = 50
# A file that its writer has not given a row by then was left by a backup that was restored, or by somebody else.
_STRAY_AFTER = 3_600_000
_PAUSE_BETWEEN_SEARCHES = 24 * 3_600_000
_log = structlog.get_logger(__name__)


class BlobGoing(StorageUnavailable):
    """The same file is being deleted at this moment; it can be kept again right after."""


class Blobs:
    """Keeps and collects files. `is_reachable` says whether the store worked when it was last used."""

    def __init__(self, *, database: Database, writer: Writer, store: ImageStore, clock: Clock) -> None:
        self._database = database
        self._writer = writer
        self._store = store
        self._clock = clock
        self.is_reachable = True
        self._folders: list[str] = []
        """Those that the search for strays has still to look through."""
        self._next_search = 0

    async def keep(self, sha256: str, path: Path, size: int, picture: Picture) -> None:
        """Put a file of `size` bytes into the store; what shall refer to it has `RESERVED` ms to do so (`refer`).

        Raises `BlobGoing`, `StorageUnavailable` and `ServiceUnavailable`.
        """
        blob = Blob(
            hash=sha256, content_type=picture.content_type, bytes=size, width=picture.width, height=picture.height
        )

        async def reserve(unit: Unit) -> bool:
            return await blob_rows.reserve(unit.connection, blob, now=unit.now, until=unit.now + RESERVED)

        if not await self._writer.run(reserve):
            raise BlobGoing("The same picture is being deleted right now.", retry_after=1)
        with self._watching():
            await self._store.put(original_key(sha256), path)

    async def put_thumbnail(self, key: str, content: bytes) -> None:
        """Keep a thumbnail beside its original; raises `StorageUnavailable`."""
        with self._watching():
            await self._store.put_bytes(key, content)

    async def open(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Begin to read a file from `start` up to `end` (not included); raises `Missing` and `StorageUnavailable`."""
        with self._watching():
            return await self._store.open(key, start, end)

    async def collect(self) -> int:
        """Delete one batch of files that nothing refers to any more; returns how many were looked at.

        While the store is away nothing is done: they are looked at again later.
        """
        now = self._clock.now()
        if not await self._database.read(lambda connection: blob_rows.is_any_due(connection, now=now)):
            return 0

        async def take(unit: Unit) -> tuple[int, list[str]]:
            return await blob_rows.take_unreferenced(
                unit.connection, now=unit.now, until=unit.now + _LEASE, limit=_COLLECTED_AT_ONCE
            )

        looked_at, going = await self._writer.run(take)
        if going:
            try:
                with self._watching():
                    for sha256 in going:
                        for key in keys_of(sha256):
                            await self._store.delete(key)
            except StorageUnavailable as error:
                _log.warning("files_wait", files=len(going), reason=error.detail)
                return 0
            await self._writer.run(lambda unit: blob_rows.remove(unit.connection, going))
            _log.info("files_deleted", files=len(going))
        return looked_at

    async def adopt_strays(self) -> int:
        """Look through one folder of the store for old files without a row; returns how many were found.

        They are given a row that nothing refers to, so that they are collected as any other. A search takes as many
        calls as there are folders, and begins once a day.
        """
        if not self._folders:
            if self._clock.now() < self._next_search:
                return 0
            self._next_search = self._clock.now() + _PAUSE_BETWEEN_SEARCHES
            self._folders = list(FOLDERS)
        adopted = 0
        try:
            with self._watching():
                async for batch in self._store.list_files(self._folders.pop()):
                    adopted += await self._adopt(batch)
        except StorageUnavailable as error:
            _log.warning("search_waits", reason=error.detail)
            self._folders = []
        return adopted

    async def _adopt(self, batch: Sequence[StoredFile]) -> int:
        before = self._clock.now() - _STRAY_AFTER
        old = {hash_: file for file in batch if file.modified < before and (hash_ := sha256_of(file.key)) is not None}
        if not old:
            return 0
        unknown = await self._database.read(lambda connection: blob_rows.unknown(connection, old))
        strays = [
            Blob(hash=hash_, content_type=None, bytes=old[hash_].bytes, width=None, height=None)
            for hash_ in sorted(unknown)
        ]
        if strays:
            await self._writer.run(lambda unit: blob_rows.adopt(unit.connection, strays, now=unit.now))
            _log.warning("files_without_a_row", files=len(strays))
        return len(strays)

    def _watching(self) -> "_Watching":
        return _Watching(self)


class _Watching:
    """Notes whether the store could be used."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        is_unreachable = kind is not None and issubclass(kind, StorageUnavailable)
        if is_unreachable or kind is None:
            self._blobs.is_reachable = not is_unreachable


async def refer(unit: Unit, sha256: str) -> bool:
    """Lock a kept file's row, so that a row that refers to it can be written in this transaction.

    False if the file was collected meanwhile, because more than `RESERVED` ms passed: keep it again.
    """
    return await blob_rows.lock(unit.connection, sha256)
