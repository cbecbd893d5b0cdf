"""Finds stored files without a row in the database.

They are newer than a restored backup, or left by a fault.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from app.clock import Clock
from app.db import blob_store, cluster_state
from app.db.blob_store import Blob
from app.db.engine import Connection, Database
from app.domain.blob import FOLDERS, sha256_of
from app.errors import StorageUnavailable
from app.storage.store import ImageStore, Missing, StoredFile
from app.writing.unit_of_work import UnitOfWork
from app.writing.writer import Writer

# Rows are added before their files, so an older file without a row is an orphan.
_ORPHAN_AFTER_MS = 3_600_000
_PAUSE_BETWEEN_SEARCHES_MS = 24 * 3_600_000
_OWNER_KEY = "owner"
_OWNER_NAME = "storage_owner"
_log = structlog.get_logger(__name__)


@dataclass(eq=False, kw_only=True)
class OrphanFinder:
    """Searches the store, one folder per call, once a day.

    Orphans get a row without references, so they are collected like other files. Only a store marked as this database's
    is searched: in another service's store, every file would be an orphan.
    """

    database: Database
    writer: Writer
    store: ImageStore
    clock: Clock

    def __post_init__(self) -> None:
        self._folders: list[str] = []
        """Folders left to search."""
        self._next_search = 0

    async def adopt(self) -> int:
        """Search the next folder; returns the number of orphans."""
        try:
            if not self._folders:
                await self._begin()
            return await self._search_next() if self._folders else 0
        except StorageUnavailable as error:
            _log.warning("orphan_search_interrupted", reason=error.detail)
            return 0

    async def _begin(self) -> None:
        if self.clock.now() < self._next_search:
            return
        is_ours = await self._is_ours()
        self._next_search = self.clock.now() + _PAUSE_BETWEEN_SEARCHES_MS
        if is_ours:
            self._folders = list(FOLDERS)
        else:
            hint = "The file 'owner' in storage belongs to another database, so files without a row are not deleted."
            _log.warning("storage_owner_mismatch", hint=hint)

    async def _is_ours(self) -> bool:
        """Whether the store has our mark; marks an unmarked store."""

        def write(connection: Connection) -> str:
            return cluster_state.put_if_absent(connection, _OWNER_NAME, secrets.token_hex(16))

        ours = (await self.database.write(write)).encode()
        try:
            return b"".join([chunk async for chunk in await self.store.open(_OWNER_KEY)]) == ours
        except Missing:
            await self.store.put(_OWNER_KEY, ours)
            return True

    async def _search_next(self) -> int:
        adopted = 0
        async for batch in self.store.list_files(self._folders[-1]):
            adopted += await self._adopt(batch)
        self._folders.pop()
        return adopted

    async def _adopt(self, batch: Sequence[StoredFile]) -> int:
        before = self.clock.now() - _ORPHAN_AFTER_MS
        old = {hash_: file for file in batch if file.modified < before and (hash_ := sha256_of(file.key)) is not None}
        if not old:
            return 0
        unknown = await self.database.read(lambda connection: blob_store.missing(connection, old))
        orphans = [
            Blob(hash=hash_, content_type=None, bytes=old[hash_].bytes, width=None, height=None)
            for hash_ in sorted(unknown)
        ]

        def write(unit: UnitOfWork) -> None:
            blob_store.adopt(unit.connection, orphans, now=unit.now)

        if orphans:
            await self.writer.run(write)
            _log.warning("orphans_found", files=len(orphans))
        return len(orphans)
