"""Finds an image's stored copy, fetching it on demand."""

import asyncio
from dataclasses import dataclass

from app.clock import Clock
from app.db import image_store
from app.db.engine import Database
from app.domain import image as rules
from app.domain.blob import EXTENSIONS
from app.domain.image import Image, ImageState
from app.errors import ImageNotFound, ImagePending, ImageUnavailable, ServiceUnavailable, StorageUnavailable
from app.images.archiver import Archiver
from app.images.files import ServedFile
from app.storage.store import ImageStore
from app.writing.single_flight import SingleFlight

_MAX_WAIT_SECONDS = 20.0
_POLL_SECONDS = 0.5
_CONCURRENT_FETCHES = 8
# Above these, requests for pending images get 503 at once.
_MAX_FETCHES = 200
_MAX_WAITERS = 1_000


@dataclass(eq=False, kw_only=True)
class ImageService:
    """Finds images by id.

    Concurrent requests for a pending image share one attempt to fetch it.
    """

    database: Database
    archiver: Archiver
    store: ImageStore
    clock: Clock
    max_wait_seconds: float = _MAX_WAIT_SECONDS

    def __post_init__(self) -> None:
        self._fetches: SingleFlight[str, None] = SingleFlight("image-on-demand")
        self._permits = asyncio.Semaphore(_CONCURRENT_FETCHES)
        self._waiters = 0
        self._is_stopped = False

    async def find(self, image_id: str, disconnected: "asyncio.Future[None] | None" = None) -> ServedFile:
        """Return an image's stored copy, fetching it if needed.

        Stops waiting when `disconnected` is done. Raises `ImageNotFound`, `ImageUnavailable` or, if the image could not
        be fetched or stored yet, `ImagePending` or `StorageUnavailable`.
        """
        image = await self._read(image_id)
        if image is not None and image.is_pending:
            await self._demand(image_id, disconnected)
            image = await self._read(image_id)
        if image is None:
            raise ImageNotFound("No image has this ID.")
        if image.state is ImageState.UNAVAILABLE:
            raise ImageUnavailable(f"The image was not copied: {image.reason}")
        if image.hash is None or image.content_type is None or image.bytes is None:
            if self.archiver.is_paused or not self.store.is_reachable:
                raise StorageUnavailable("Image storage is unavailable.")
            raise ImagePending("The image has not been fetched yet; try again later.", retry_after=self._wait_of(image))
        name = f"{image.id}.{EXTENSIONS.get(image.content_type, 'bin')}"
        return ServedFile(image.hash, image.content_type, image.bytes, name)

    def stop(self) -> None:
        """Cancel fetches on demand, which ends all waiting requests."""
        self._is_stopped = True
        self._fetches.cancel()

    async def aclose(self) -> None:
        """Stop, and wait until all claims are put back."""
        self.stop()
        await self._fetches.aclose()

    async def _read(self, image_id: str) -> Image | None:
        return await self.database.read(lambda connection: image_store.get(connection, image_id))

    def _wait_of(self, image: Image) -> int:
        """Return the seconds until the next attempt is possible."""
        now = self.clock.now()
        again = (image.tried_at or now) + rules.DEMAND_PAUSE_MS
        if image.next_try_at is not None and image.claimed_by is None:
            again = min(again, image.next_try_at)
        return max(round((again - now) / 1000), 1)

    async def _demand(self, image_id: str, disconnected: "asyncio.Future[None] | None") -> None:
        """Wait for a fetch, a timeout or the client's disconnect."""
        if self._is_stopped:
            raise ServiceUnavailable("The service is stopping.")
        if self.archiver.is_paused:
            raise StorageUnavailable("Image storage is unavailable.")
        is_new = image_id not in self._fetches
        if self._waiters >= _MAX_WAITERS or (is_new and len(self._fetches) >= _MAX_FETCHES):
            raise ImagePending("Too many images are being fetched right now; try again.", retry_after=5)
        fetch = self._fetches.join(image_id, lambda: self._obtain(image_id))
        self._waiters += 1
        try:
            waited_for = {fetch} if disconnected is None else {fetch, disconnected}
            await asyncio.wait(waited_for, timeout=self.max_wait_seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiters -= 1
        if fetch.done() and not fetch.cancelled():
            fetch.result()

    async def _obtain(self, image_id: str) -> None:
        """Fetch an image or wait for a running fetch.

        Does nothing if it was just tried.
        """
        until = asyncio.get_running_loop().time() + self.max_wait_seconds
        async with self._permits:
            taken = await self.archiver.claim_out_of_turn(image_id)
            if taken is not None:
                await self.archiver.fetch(*taken)
                return
        while asyncio.get_running_loop().time() < until:
            if (done := self.archiver.under_way(image_id)) is not None:
                await done.wait()
                return
            image = await self._read(image_id)
            if image is None or not image.is_pending or image.claimed_by is None:
                return
            # Another process has claimed it.
            await asyncio.sleep(_POLL_SECONDS)
