"""Copies images to storage: claims, fetches, records outcomes."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import structlog

from app.clock import Clock
from app.db import image_store, task_store
from app.db.engine import Database
from app.domain import image as rules
from app.domain.event import images_settled
from app.domain.image import Image, NotFetched, Stored
from app.errors import ServiceUnavailable
from app.images.blobs import refer
from app.images.fetcher import ImageFetcher, Outcome, Postponed
from app.writing.leased_work import LeasedWork
from app.writing.unit_of_work import UnitOfWork
from app.writing.wake_up import WakeUp
from app.writing.writer import Writer

_CANCELED = Postponed(0, "canceled")
_log = structlog.get_logger(__name__)


@dataclass(eq=False, kw_only=True)
class Archiver:
    """Claims and fetches images. `wake_up` wakes when one is due.

    If a process dies, another one fetches its images after the lease. If two fetch the same image, they store the same
    file, and the first to record it settles the image.
    """

    database: Database
    writer: Writer
    fetcher: ImageFetcher
    clock: Clock
    wake_up: WakeUp
    renew_seconds: float = rules.LEASE_MS / 3 / 1000

    def __post_init__(self) -> None:
        self._work: LeasedWork[Image] = LeasedWork("image", lambda i: (i.id, i.tried_at or 0), clock=self.clock)

    @property
    def is_paused(self) -> bool:
        """Whether fetches wait for storage."""
        return not (self.fetcher.blobs.store.gate.is_open and self.fetcher.spool.gate.is_open)

    def under_way(self, image_id: str) -> asyncio.Event | None:
        """Return an event for the end of this process's fetch.

        None if this process isn't fetching the image.
        """
        return self._work.ended(image_id)

    async def claim(self, limit: int) -> list[Image]:
        """Claim up to `limit` images that are due."""
        due_at = await self.database.read(image_store.next_due)
        if due_at is None:
            return []
        now = self.clock.now()
        if due_at > now:
            self.wake_up.wake_after((due_at - now) / 1000)
            return []

        def claim(unit: UnitOfWork) -> list[Image]:
            due = image_store.due(unit.connection, now=unit.now, limit=limit)
            # This process may still hold an image past its lease, if the outcome can't be recorded.
            in_hand = self._work.ids
            return self._claim(unit, [image for image in due if image.id not in in_hand])

        return await self._work.claim(self.writer.run(claim))

    async def claim_out_of_turn(self, image_id: str) -> tuple[Image, int | None] | None:
        """Claim an image on demand.

        Returns it with the time of its next scheduled attempt, which still takes place (None if that is due now).
        Returns None if the image is claimed or was just tried.
        """
        planned: int | None = None

        def claim(unit: UnitOfWork) -> list[Image]:
            nonlocal planned
            image = image_store.lock(unit.connection, image_id, skip_locked=True)
            if image is None or not rules.may_demand(image, unit.now) or image.id in self._work.ids:
                return []
            planned = image.next_try_at if (image.next_try_at or 0) > unit.now else None
            return self._claim(unit, [image])

        claimed = await self._work.claim(self.writer.run(claim))
        return (claimed[0], planned) if claimed else None

    async def fetch(self, image: Image, planned: int | None = None) -> None:
        """Fetch a claimed image once and record the outcome.

        If canceled, put it back. `planned` is the time of the next scheduled attempt, if this one is on demand.
        """
        put_back = partial(self._settle, image, _CANCELED, planned)
        await self._work.run(image, self._fetch(image, planned), put_back)

    async def release_all(self) -> None:
        """Put back every claim when the only process starts."""
        await self.writer.run(lambda unit: image_store.release_all(unit.connection, now=unit.now))

    def _claim(self, unit: UnitOfWork, due: Sequence[Image]) -> list[Image]:
        claimed = [rules.claim(image, self._work.owner, unit.now) for image in due]
        if claimed:
            image_store.save(unit.connection, claimed)
        return claimed

    async def _fetch(self, image: Image, planned: int | None) -> None:
        began = time.monotonic()
        async with self._lease_renewed(image.id):
            outcome = await self.fetcher.fetch(image)
        until = self.clock.now() + rules.LEASE_MS
        after = await self._work.record(lambda: self._settle(image, outcome, planned), until=until)
        if after is not None and after.next_try_at is not None:
            self.wake_up.wake_after(max(after.next_try_at - self.clock.now(), 0) / 1000)
        _report(image, outcome, after, round((time.monotonic() - began) * 1000))

    @asynccontextmanager
    async def _lease_renewed(self, image_id: str) -> AsyncIterator[None]:
        """Renew an image's lease in this block.

        Its file may have to wait for storage longer than a lease.
        """

        def renew(unit: UnitOfWork) -> None:
            image = image_store.lock(unit.connection, image_id)
            if image is not None:
                image_store.save(unit.connection, [rules.renew(image, self._work.owner, unit.now)])

        async def keep_renewing() -> None:
            while True:
                await asyncio.sleep(self.renew_seconds)
                with suppress(ServiceUnavailable):
                    await self.writer.run(renew)

        renewing = asyncio.create_task(keep_renewing(), name="renew-image-lease")
        try:
            yield
        finally:
            renewing.cancel()

    async def _settle(self, image: Image, outcome: Outcome, planned: int | None) -> Image | None:
        # With the task's row locked, the last image to be settled can tell that it is the last.
        return await self.writer.run(
            lambda unit: self._apply(unit, image.id, outcome, planned),
            locking=image.task_id,
            blob=outcome.hash if isinstance(outcome, Stored) else "",
        )

    def _apply(self, unit: UnitOfWork, image_id: str, outcome: Outcome, planned: int | None) -> Image | None:
        image = image_store.lock(unit.connection, image_id)
        if image is None or not image.is_pending:
            return image
        after = self._judge(unit, image, outcome, planned)
        image_store.save(unit.connection, [after])
        if not after.is_pending and not image_store.count_pending(unit.connection, image.task_id):
            task = task_store.get(unit.connection, image.task_id)
            if task is not None:
                unit.events.append(images_settled(task, unit.now))
        return after

    def _judge(self, unit: UnitOfWork, image: Image, outcome: Outcome, planned: int | None) -> Image:
        if isinstance(outcome, Stored):
            # Valid even if another process has claimed the image meanwhile, but not if the file was already collected.
            is_kept = refer(unit, outcome.hash)
            return rules.store(image, outcome) if is_kept else rules.put_back(image, unit.now)
        if image.claimed_by != self._work.owner:
            return image
        if isinstance(outcome, NotFetched):
            return rules.fail(image, outcome, now=unit.now, planned=planned)
        return rules.put_back(image, unit.now + outcome.pause)


def _report(image: Image, outcome: Outcome, after: Image | None, milliseconds: int) -> None:
    log = _log.warning if isinstance(outcome, Postponed) else _log.info
    log(
        "image",
        image_id=image.id,
        task_id=image.task_id,
        state=after.state.value if after else "deleted",
        reason=None if isinstance(outcome, Stored) else outcome.reason,
        bytes=outcome.bytes if isinstance(outcome, Stored) else None,
        milliseconds=milliseconds,
    )
