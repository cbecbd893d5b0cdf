"""Stored files for display: read in parts, with thumbnails that are made once and kept."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from app.domain.blob import original_key, thumbnail_key
from app.errors import ImageUnavailable, ServiceUnavailable, StorageUnavailable
from app.imaging.executor import ImageExecutor
from app.imaging.layout import BadImage
from app.storage.spool import Spool
from app.storage.store import ImageStore, Missing
from app.writing.single_flight import SingleFlight

_CONCURRENT_THUMBNAILS = 2
_MAX_PENDING_THUMBNAILS = 64
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServedFile:
    """A picture in the store, and the name under which browsers save it."""

    sha256: str
    content_type: str
    bytes: int
    name: str


class ImageFiles:
    """Reads pictures from the store."""

    def __init__(self, *, store: ImageStore, executor: ImageExecutor, spool: Spool) -> None:
        self._store = store
        self._executor = executor
        self._spool = spool
        self._thumbnails: SingleFlight[str, bytes] = SingleFlight("thumbnail")
        self._permits = asyncio.Semaphore(_CONCURRENT_THUMBNAILS)

    async def open(self, file: ServedFile, start: int, end: int) -> AsyncIterator[bytes]:
        """Begin to read a picture from `start` up to `end` (not included).

        Raises `StorageUnavailable`, and `ImageUnavailable` if the file is not in the store although it should be.
        """
        try:
            # All of it is asked for as such, not as a part.
            return await self._store.open(original_key(file.sha256), start, None if end >= file.bytes else end)
        except Missing:
            raise _missing(file) from None

    async def check(self, file: ServedFile) -> None:
        """See that a picture is there; raises as `open` does."""
        try:
            await self._store.size(original_key(file.sha256))
        except Missing:
            raise _missing(file) from None

    async def thumbnail(self, file: ServedFile, width: int) -> bytes:
        """Return a WebP of at most that width: the one that is kept, or a new one. Raises as `open` does."""
        key = thumbnail_key(file.sha256, width)
        try:
            return b"".join([chunk async for chunk in await self._store.open(key)])
        except Missing:
            pass
        if key not in self._thumbnails and len(self._thumbnails) >= _MAX_PENDING_THUMBNAILS:
            raise ServiceUnavailable("Many thumbnails are being made right now.")
        return await self._thumbnails.run(key, lambda: self._make(file, width))

    async def aclose(self) -> None:
        """Cancel thumbnails in progress."""
        await self._thumbnails.aclose()

    async def _make(self, file: ServedFile, width: int) -> bytes:
        async with self._permits:
            with self._spool.file() as path:
                chunks = await self.open(file, 0, file.bytes)
                with await asyncio.to_thread(path.open, "wb") as copy:
                    async for chunk in chunks:
                        await asyncio.to_thread(copy.write, chunk)
                try:
                    content = await self._executor.thumbnail(path, width)
                except BadImage as error:
                    raise ImageUnavailable(f"No thumbnail can be made of it: {error.reason}") from None
        try:
            await self._store.put(thumbnail_key(file.sha256, width), content)
        except StorageUnavailable as error:
            _log.warning("thumbnail_not_kept", hash=file.sha256, reason=error.detail)
        return content


def _missing(file: ServedFile) -> ImageUnavailable:
    # Nothing is changed in the database: the store may have been set wrongly, and be set right again.
    _log.error("file_missing", hash=file.sha256, name=file.name)
    return ImageUnavailable("The file is missing in the store.")
