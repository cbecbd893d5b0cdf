"""Showing images: find the stored copy or fetch it then and there, and make thumbnails."""

import asyncio

from app.clock import Clock
from app.db import images as image_rows
from app.db.engine import Database
from app.domain import image as rules
from app.domain.blob import EXTENSIONS
from app.domain.image import Image, ImageState
from app.errors import ImageNotFound, ImagePending, ImageUnavailable, ServiceUnavailable, StorageUnavailable
from app.services.archive import Archive
from app.services.files import ServedFile

_PATIENCE_SECONDS = 20.0
_LOOK_SECONDS = 0.5
_FETCHED_AT_ONCE = 8
# Beyond this, a picture that has to be fetched first is answered with 503 at once.
_MOST_DEMANDED = 200
_MOST_WAITING = 1_000


class Images:
    """Finds images by id. All who ask for one that is pending share one try to fetch it."""

    def __init__(
        self, *, database: Database, archive: Archive, clock: Clock, patience_seconds: float = _PATIENCE_SECONDS
    ) -> None:
        self._database = database
        self._archive = archive
        self._clock = clock
        self._patience = patience_seconds
        self._demands: dict[str, asyncio.Task[None]] = {}
        self._fetching = asyncio.Semaphore(_FETCHED_AT_ONCE)
        self._waiting = 0
        self._is_stopped = False

    async def find(self, image_id: str, leaving: "asyncio.Future[None] | None" = None) -> ServedFile:
        """Return an image's stored copy, fetching it if need be; `leaving` is done when nobody waits any more.

        Raises `ImageNotFound`, `ImageUnavailable` or, if it could not be fetched or stored yet, `ImagePending` or
        `StorageUnavailable`.
        """
        image = await self._read(image_id)
        if image is not None and image.is_pending:
            await self._demand(image_id, leaving)
            image = await self._read(image_id)
        if image is None:
            raise ImageNotFound("There is no image with this id.")
        if image.state is ImageState.UNAVAILABLE:
            raise ImageUnavailable(f"There is no copy of this image: {image.reason}")
        if image.hash is None or image.content_type is None or image.bytes is None:
            if not self._archive.is_storage_reachable:
                raise StorageUnavailable("The store of image bytes can't be used now.")
            raise ImagePending("The image could not be fetched yet.", retry_after=self._wait_of(image))
        name = f"{image.id}.{EXTENSIONS.get(image.content_type, 'bin')}"
        return ServedFile(image.hash, image.content_type, image.bytes, name)

    def stop(self) -> None:
        """Let nobody wait any more: what is fetched out of turn is broken off and put back."""
        self._is_stopped = True
        for demand in self._demands.values():
            demand.cancel()

    async def aclose(self) -> None:
        """Stop, and wait until all is put back."""
        self.stop()
        await asyncio.gather(*self._demands.values(), return_exceptions=True)

    async def _read(self, image_id: str) -> Image | None:
        return await self._database.read(lambda connection: image_rows.get(connection, image_id))

    def _wait_of(self, image: Image) -> int:
        """Tell in how many seconds it may be worth asking again."""
        now = self._clock.now()
        again = (image.tried_at or now) + rules.DEMAND_PAUSE
        if image.next_try_at is not None and image.claimed_by is None:
            again = min(again, image.next_try_at)
        return max(round((again - now) / 1000), 1)

    async def _demand(self, image_id: str, leaving: "asyncio.Future[None] | None") -> None:
        """Have an image fetched, and wait for that a while."""
        if self._is_stopped:
            raise ServiceUnavailable("The service is stopping.")
        demand = self._demands.get(image_id)
        if self._waiting >= _MOST_WAITING or (demand is None and len(self._demands) >= _MOST_DEMANDED):
            raise ImagePending("Many images are being fetched right now.", retry_after=5)
        if demand is None:
            demand = asyncio.create_task(self._obtain(image_id), name=f"demand-{image_id}")
            self._demands[image_id] = demand
            demand.add_done_callback(lambda _: self._demands.pop(image_id, None))
        self._waiting += 1
        try:
            # Not awaited itself: whoever goes away must not break off what others wait for.
            waited_for = {demand} if leaving is None else {demand, leaving}
            await asyncio.wait(waited_for, timeout=self._patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting -= 1
        if demand.done() and not demand.cancelled() and (error := demand.exception()) is not None:
            raise error

    async def _obtain(self, image_id: str) -> None:
        """Fetch an image unless it was tried just now; if somebody else fetches it, wait for them."""
        until = asyncio.get_running_loop().time() + self._patience
        async with self._fetching:
            taken = await self._archive.claim_out_of_turn(image_id)
            if taken is not None:
                await self._archive.fetch(*taken)
                return
        while asyncio.get_running_loop().time() < until:
            if (done := self._archive.under_way(image_id)) is not None:
                await done.wait()
                return
            image = await self._read(image_id)
            if image is None or not image.is_pending or image.claimed_by is None:
                return
            # Another process has it in hand.
            await asyncio.sleep(_LOOK_SECONDS)
