"""Downloads an image, checks it, and stores it."""

import asyncio
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from app.domain import image as rules
from app.domain.image import Image, NotFetched, Stored
from app.errors import ServiceUnavailable, StorageUnavailable
from app.images.blobs import Blobs
from app.imaging.executor import ImageExecutor
from app.imaging.inspect import ImageInfo
from app.imaging.layout import BadImage
from app.outbound.downloads import Download, DownloadFailed, Downloads, Recovery
from app.storage.spool import Spool

_SHORT_PAUSE_MS = 1_000
_LONG_PAUSE_MS = 30_000
_RETRIES = {Recovery.LIKELY: rules.ALL_RETRIES, Recovery.EARLY: rules.EARLY_RETRIES, Recovery.NEVER: 0}
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Postponed:
    """A failure on our side; retry after `pause` milliseconds."""

    pause: int
    reason: str


Outcome = Stored | NotFetched | Postponed


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFetcher:
    """Fetches copies of images, unless `is_on` is False."""

    blobs: Blobs
    downloads: Downloads
    executor: ImageExecutor
    spool: Spool
    is_on: bool
    max_bytes: int

    async def fetch(self, image: Image) -> Outcome:
        """Fetch an image once; returns the outcome and raises nothing.

        Waits while storage is unavailable.
        """
        if not self.is_on:
            return NotFetched(rules.NOT_KEPT, retries=0)
        try:
            return await self._fetch_and_keep(image)
        except DownloadFailed as error:
            return NotFetched(error.reason, _RETRIES[error.recovery], error.retry_after)
        except StorageUnavailable as error:
            # The temporary file is gone.
            return Postponed(_LONG_PAUSE_MS, error.detail)
        except ServiceUnavailable as error:
            return Postponed(_SHORT_PAUSE_MS, error.detail)
        except Exception:  # noqa: BLE001 -- logged: retries of an image that causes a fault must end
            _log.exception("image_failed", image_id=image.id)
            return NotFetched("It could not be stored because of an internal error.")

    async def _fetch_and_keep(self, image: Image) -> Stored | NotFetched:
        with ExitStack() as files:
            path, download = await self._download(image.source_url, files)
            try:
                info = await self.executor.inspect(path)
            except BadImage as error:
                # Perhaps a page that says "not yet", or half of the image.
                recovery = Recovery.EARLY if download.is_whole else Recovery.LIKELY
                return NotFetched(error.reason, _RETRIES[recovery])
            await self._keep(download, path, info)
        return Stored(download.sha256, info.content_type, download.bytes, info.width, info.height)

    async def _download(self, url: str, files: ExitStack) -> tuple[Path, Download]:
        """Download to a temporary file that `files` deletes.

        Waits while temporary storage is full.
        """
        gate = self.spool.gate
        while True:
            async with gate.turn():
                try:
                    with ExitStack() as attempt:
                        path = attempt.enter_context(self.spool.file())
                        download = await self.downloads.fetch(url, path, max_bytes=self.max_bytes)
                        files.push(attempt.pop_all())
                except StorageUnavailable as error:
                    gate.note_failure(error.detail)
                except DownloadFailed:
                    # There may be no other image that could show whether storage works again.
                    gate.note_success()
                    raise
                else:
                    gate.note_success()
                    return path, download

    async def _keep(self, download: Download, path: Path, info: ImageInfo) -> None:
        """Store a file, waiting while the store is unavailable.

        The file is kept meanwhile, because its source may disappear.
        """
        while True:
            async with self.blobs.store.gate.turn():
                await asyncio.to_thread(path.stat)  # another process may have deleted it after a day
                with suppress(StorageUnavailable):
                    return await self.blobs.keep(download.sha256, path, download.bytes, info)
