"""Downloads an image, checks it, and stores it."""

from dataclasses import dataclass

import structlog

from app.domain import image as rules
from app.domain.image import Image, NotFetched, Stored
from app.errors import ServiceUnavailable, StorageUnavailable
from app.images.blobs import BlobBeingDeleted, Blobs
from app.imaging.executor import ImageExecutor
from app.imaging.layout import BadImage
from app.outbound.downloads import DownloadFailed, Downloads, Recovery
from app.storage.spool import Spool

_STORAGE_PAUSE_MS = 30_000
_SHORT_PAUSE_MS = 1_000
_RETRIES = {Recovery.LIKELY: rules.ALL_RETRIES, Recovery.EARLY: rules.EARLY_RETRIES, Recovery.NEVER: 0}
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Postponed:
    """A failure on our side; try again after `pause` ms."""

    pause: int
    reason: str


Outcome = Stored | NotFetched | Postponed


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFetcher:
    """Fetches copies of images. With `is_on` False, no copies are made."""

    blobs: Blobs
    downloads: Downloads
    executor: ImageExecutor
    spool: Spool
    is_on: bool
    max_bytes: int

    async def fetch(self, image: Image) -> Outcome:
        """Fetch an image once and return the outcome; raises nothing."""
        if not self.is_on:
            return NotFetched(rules.NOT_KEPT, retries=0)
        try:
            return await self._fetch_and_keep(image)
        except DownloadFailed as error:
            return NotFetched(error.reason, _RETRIES[error.recovery], error.retry_after)
        except BlobBeingDeleted as error:
            return Postponed(_SHORT_PAUSE_MS, error.detail)
        except StorageUnavailable as error:
            return Postponed(_STORAGE_PAUSE_MS, error.detail)
        except ServiceUnavailable as error:
            return Postponed(_SHORT_PAUSE_MS, error.detail)
        except OSError as error:
            # The directory of temporary files is full or gone.
            return Postponed(_STORAGE_PAUSE_MS, error.strerror or type(error).__name__)
        except Exception:  # noqa: BLE001 -- logged; an image that causes a fault must be given up eventually
            _log.exception("image_failed", image_id=image.id)
            return NotFetched("It could not be stored because of an internal error.")

    async def _fetch_and_keep(self, image: Image) -> Stored | NotFetched:
        with self.spool.file() as path:
            download = await self.downloads.fetch(image.source_url, path, max_bytes=self.max_bytes)
            try:
                info = await self.executor.inspect(path)
            except BadImage as error:
                # A page that says "not yet", perhaps, or half of the image.
                recovery = Recovery.EARLY if download.is_whole else Recovery.LIKELY
                return NotFetched(error.reason, _RETRIES[recovery])
            await self.blobs.keep(download.sha256, path, download.bytes, info)
        return Stored(download.sha256, info.content_type, download.bytes, info.width, info.height)
