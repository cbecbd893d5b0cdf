"""Keeping copies: claim images that are due, fetch each, check it, store it, record what came of it."""

import asyncio
import secrets
import time
from contextlib import suppress
from dataclasses import dataclass

import structlog

from app.clock import Clock
from app.db import images as image_rows
from app.db import tasks as task_rows
from app.db.engine import Database
from app.domain import image as rules
from app.domain.event import images_settled
from app.domain.image import Image, NotFetched, Stored
from app.errors import ServiceUnavailable, StorageUnavailable
from app.imaging.layout import BadPicture
from app.imaging.workshop import Workshop
from app.outbound.downloads import DownloadFailed, Downloads
from app.services.blobs import BlobGoing, Blobs, refer
from app.services.unit import Unit
from app.services.writer import Writer
from app.storage.spool import Spool
from app.writing.wake_up import WakeUp

_STORAGE_PAUSE = 30_000
_SHORT_PAUSE = 1_000
_RECORD_PAUSE_SECONDS = 0.5
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Postponed:
    """Nothing is known of the source, as something of ours failed; to be tried again after `pause` ms."""

    pause: int
    reason: str


_Outcome = Stored | NotFetched | _Postponed


class Archive:
    """Makes copies of images, or with `is_on` False settles that none are made. `wake_up` wakes when one is due.

    A process that dies leaves what it has in hand to others when its lease is over. Two that work on the same image
    store the same file; the first to record it settles the image.
    """

    def __init__(
        self,
        *,
        database: Database,
        writer: Writer,
        blobs: Blobs,
        downloads: Downloads,
        workshop: Workshop,
        spool: Spool,
        clock: Clock,
        is_on: bool,
        max_bytes: int,
        wake_up: WakeUp,
    ) -> None:
        self._database = database
        self._writer = writer
        self._blobs = blobs
        self._downloads = downloads
        self._workshop = workshop
        self._spool = spool
        self._clock = clock
        self._is_on = is_on
        self._max_bytes = max_bytes
        self._wake_up = wake_up
        self._name = secrets.token_hex(8)
        """Names this process in the claims it makes."""
        self._in_hand: dict[str, asyncio.Event] = {}

    def under_way(self, image_id: str) -> asyncio.Event | None:
        """Return what is set when this process has done with an image that it is fetching; None if it is not."""
        return self._in_hand.get(image_id)

    async def claim(self, limit: int) -> list[Image]:
        """Claim up to `limit` images that are due."""
        due_at = await self._database.read(image_rows.next_due)
        if due_at is None:
            return []
        now = self._clock.now()
        if due_at > now:
            self._wake_up.wake_after((due_at - now) / 1000)
            return []

        def take(unit: Unit) -> list[Image]:
            due = image_rows.due(unit.connection, now=unit.now, limit=limit)
            # One still in hand here is past its lease because its outcome can't be recorded.
            claimed = [rules.claim(image, self._name, unit.now) for image in due if image.id not in self._in_hand]
            if claimed:
                image_rows.save(unit.connection, claimed)
            return claimed

        return self._take_in_hand(await self._writer.run(take))

    async def claim_out_of_turn(self, image_id: str) -> tuple[Image, int | None] | None:
        """Claim an image that is asked for, unless somebody has it or tried just now.

        Returns it with the time of its next try by the schedule, which is not used up; None for the time if it is due.
        """

        def take(unit: Unit) -> tuple[Image, int | None] | None:
            image = image_rows.lock(unit.connection, image_id, skip_locked=True)
            if image is None or not rules.may_demand(image, unit.now) or image.id in self._in_hand:
                return None
            planned = image.next_try_at
            claimed = rules.claim(image, self._name, unit.now)
            image_rows.save(unit.connection, [claimed])
            return claimed, planned if planned is not None and planned > unit.now else None

        taken = await self._writer.run(take)
        if taken is not None:
            self._take_in_hand([taken[0]])
        return taken

    async def fetch(self, image: Image, planned: int | None = None) -> None:
        """Fetch a claimed image, once, and record the outcome. Cancelled, it is put back for others.

        `planned` is when the schedule has its next try, if this one is out of turn.
        """
        began = time.monotonic()
        try:
            outcome = await self._try(image)
            after = await self._record(image, outcome, planned)
            self._tell(image, outcome, after, round((time.monotonic() - began) * 1000))
        except ServiceUnavailable as error:
            _log.warning("image_waits", image_id=image.id, reason=error.detail)
        except asyncio.CancelledError:
            with suppress(ServiceUnavailable):
                await self._settle(image, _Postponed(0, "broken off"), planned)
            raise
        finally:
            self._in_hand.pop(image.id).set()

    @property
    def is_storage_reachable(self) -> bool:
        """Whether the store worked when it was last used."""
        return self._blobs.is_reachable

    async def release_all(self) -> None:
        """Put back what anybody has in hand; to be called at the start of the only process that there is."""

        def work(unit: Unit) -> None:
            image_rows.release_all(unit.connection, now=unit.now)

        await self._writer.run(work)

    def _take_in_hand(self, claimed: list[Image]) -> list[Image]:
        self._in_hand.update((image.id, asyncio.Event()) for image in claimed)
        return claimed

    async def _try(self, image: Image) -> _Outcome:
        if not self._is_on:
            return NotFetched(rules.NOT_KEPT, may_recover=False)
        try:
            return await self._fetch_and_keep(image)
        except DownloadFailed as error:
            wait = None if error.retry_after is None else round(error.retry_after * 1000)
            return NotFetched(error.reason, may_recover=error.may_recover, retry_after=wait)
        except BlobGoing as error:
            return _Postponed(_SHORT_PAUSE, error.detail)
        except StorageUnavailable as error:
            return _Postponed(_STORAGE_PAUSE, error.detail)
        except ServiceUnavailable as error:
            return _Postponed(_SHORT_PAUSE, error.detail)
        except OSError as error:
            # The directory of files on their way: full, or gone.
            return _Postponed(_STORAGE_PAUSE, error.strerror or type(error).__name__)
        except Exception:  # noqa: BLE001 -- logged; one picture that provokes a fault is to be given up some time
            _log.exception("image_failed", image_id=image.id)
            return NotFetched("A fault of this service kept it from being stored.")

    async def _fetch_and_keep(self, image: Image) -> Stored | NotFetched:
        with self._spool.file() as path:
            download = await self._downloads.fetch(image.source_url, path, max_bytes=self._max_bytes)
            try:
                picture = await self._workshop.inspect(path)
            except BadPicture as error:
                # What arrived whole and is bad stays bad.
                return NotFetched(error.reason, may_recover=not download.is_whole)
            await self._blobs.keep(download.sha256, path, download.bytes, picture)
        return Stored(download.sha256, picture.content_type, download.bytes, picture.width, picture.height)

    async def _record(self, image: Image, outcome: _Outcome, planned: int | None) -> Image | None:
        """Write what came of a try, as often as it takes until the lease ends; then others try in any case."""
        give_up_at = self._clock.now() + rules.LEASE
        while True:
            try:
                after = await self._settle(image, outcome, planned)
            except ServiceUnavailable:
                if self._clock.now() >= give_up_at:
                    raise
                await asyncio.sleep(_RECORD_PAUSE_SECONDS)
            else:
                if after is not None and after.next_try_at is not None:
                    self._wake_up.wake_after(max(after.next_try_at - self._clock.now(), 0) / 1000)
                return after

    async def _settle(self, image: Image, outcome: _Outcome, planned: int | None) -> Image | None:
        # With the task's row locked, whoever settles the last of its images sees that it is the last.
        return await self._writer.run(
            lambda unit: self._apply(unit, image.id, outcome, planned),
            locking=image.task_id,
            blob=outcome.hash if isinstance(outcome, Stored) else "",
        )

    def _apply(self, unit: Unit, image_id: str, outcome: _Outcome, planned: int | None) -> Image | None:
        image = image_rows.lock(unit.connection, image_id)
        if image is None or not image.is_pending:
            return image
        after = self._judge(unit, image, outcome, planned)
        image_rows.save(unit.connection, [after])
        if not after.is_pending and not image_rows.count_pending(unit.connection, image.task_id):
            task = task_rows.get(unit.connection, image.task_id)
            if task is not None:
                unit.events.append(images_settled(task, unit.now))
        return after

    def _judge(self, unit: Unit, image: Image, outcome: _Outcome, planned: int | None) -> Image:
        if isinstance(outcome, Stored):
            # True whoever has it in hand by now; unless it took so long that the file was collected.
            is_kept = refer(unit, outcome.hash)
            return rules.store(image, outcome) if is_kept else rules.put_back(image, unit.now)
        if image.claimed_by != self._name:
            return image
        if isinstance(outcome, NotFetched):
            return rules.fail(image, outcome, now=unit.now, planned=planned)
        return rules.put_back(image, unit.now + outcome.pause)

    @staticmethod
    def _tell(image: Image, outcome: _Outcome, after: Image | None, milliseconds: int) -> None:
        is_fault_of_ours = isinstance(outcome, _Postponed)
        tell = _log.warning if is_fault_of_ours else _log.info
        tell(
            "image",
            image_id=image.id,
            task_id=image.task_id,
            state=after.state.value if after else "deleted",
            reason=None if isinstance(outcome, Stored) else outcome.reason,
            bytes=outcome.bytes if isinstance(outcome, Stored) else None,
            milliseconds=milliseconds,
        )
