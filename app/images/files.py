"""Reads stored images and makes thumbnails."""

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
    """A stored image; `name` is the file name for browsers."""

    sha256: str
    content_type: str
    bytes: int
    name: str


@dataclass(eq=False, kw_only=True)
class ImageFiles:
    """Reads images and their thumbnails, which are made once."""

    store: ImageStore
    executor: ImageExecutor
    spool: Spool

    def __post_init__(self) -> None:
        self._thumbnails: SingleFlight[str, bytes] = SingleFlight("thumbnail")
        self._permits = asyncio.Semaphore(_CONCURRENT_THUMBNAILS)

    async def open(self, file: ServedFile, start: int, end: int) -> AsyncIterator[bytes]:
        """Read an image's bytes from `start` to `end` (exclusive).

        Raises `StorageUnavailable`, and `ImageUnavailable` if the file is missing.
        """
        try:
            # Some stores serve ranges more slowly, so a whole file is requested without one.
            return await self.store.open(original_key(file.sha256), start, None if end >= file.bytes else end)
        except Missing:
            raise _missing(file) from None

    async def check(self, file: ServedFile) -> None:
        """Check that the file exists; raises as `open` does."""
        try:
            await self.store.size(original_key(file.sha256))
        except Missing:
            raise _missing(file) from None

    async def thumbnail(self, file: ServedFile, width: int) -> bytes:
        """Return a WebP thumbnail, making it if needed.

        Raises the errors of `open`, and `ServiceUnavailable` if too many are being made.
        """
        key = thumbnail_key(file.sha256, width)
        try:
            return b"".join([chunk async for chunk in await self.store.open(key)])
        except Missing:
            pass
        if key not in self._thumbnails and len(self._thumbnails) >= _MAX_PENDING_THUMBNAILS:
            raise ServiceUnavailable("Too many thumbnails are being made right now; try again.")
        return await self._thumbnails.run(key, lambda: self._make(file, width))

    async def aclose(self) -> None:
        """Cancel thumbnails in progress."""
        await self._thumbnails.aclose()

    async def _make(self, file: ServedFile, width: int) -> bytes:
        async with self._permits:
            with self.spool.file() as path:
                chunks = await self.open(file, 0, file.bytes)
                with await asyncio.to_thread(path.open, "wb") as copy:
                    async for chunk in chunks:
                        await asyncio.to_thread(copy.write, chunk)
                try:
                    content = await self.executor.thumbnail(path, width)
                except BadImage as error:
                    raise ImageUnavailable(f"No thumbnail can be made: the file {error.reason}.") from None
        try:
            await self.store.put(thumbnail_key(file.sha256, width), content)
        except StorageUnavailable as error:
            _log.warning("thumbnail_not_stored", hash=file.sha256, reason=error.detail)
        return content


def _missing(file: ServedFile) -> ImageUnavailable:
    # The database is not changed: STORAGE_URL may be wrong, and corrected later.
    _log.error("file_missing", hash=file.sha256, name=file.name)
    return ImageUnavailable("The file is missing from storage.")
