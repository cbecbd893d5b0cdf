"""The background loops of a process, and how they stop."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import structlog

from app.access.keyring import REFRESH_SECONDS
from app.container import Container
from app.loops.claim import ClaimLoop
from app.loops.loop import Loop
from app.settings import Settings
from app.upstream.poll_pace import CONCURRENT_POLLS
from app.writing.wake_up import WakeUp

_CONCURRENT_DOWNLOADS = 16
# When stopping, submits in flight get the time of one upstream call, plus this time to record the result.
_RECORD_SECONDS = 5
# Submits and webhooks tend to end together. Claiming several at once is much cheaper than one by one.
_GATHER_SECONDS = 0.01
_SWEEP_SECONDS = 60
# Once the database is back, events and key revocations must not wait long.
_SHORT_PAUSE_SECONDS = 1.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopTimes:
    """Intervals of the loops, and time limits for stopping.

    An interrupted webhook is sent again, which receivers must expect.
    """

    check_seconds: float = 1.0
    webhook_stop_seconds: float = 3.0


class Background:
    """The loops of one process."""

    def __init__(self, container: Container, settings: Settings, times: LoopTimes) -> None:
        self._times = times
        self._ending: asyncio.Task[None] | None = None
        wake_ups = container.kernel.wake_ups
        self._upstream_seconds = settings.upstream_timeout_seconds + _RECORD_SECONDS
        dispatcher, reconciler = container.upstream.dispatcher, container.upstream.reconciler
        images, retention = container.images, container.tasks.retention
        sender, broadcaster = container.webhooks.sender, container.events.broadcaster
        self._submits = ClaimLoop(
            dispatcher.claim, dispatcher.send, settings.upstream_concurrency, wake_ups.queue, _GATHER_SECONDS
        )
        self._polls = ClaimLoop(reconciler.claim, reconciler.poll, CONCURRENT_POLLS, wake_ups.poll)
        self._webhooks = ClaimLoop(sender.claim, sender.send, sender.workers, wake_ups.delivery, _GATHER_SECONDS)
        self._downloads = ClaimLoop(
            images.archiver.claim, images.archiver.fetch, _CONCURRENT_DOWNLOADS, wake_ups.archive
        )
        expire = each(container.clock_repair.run_once, reconciler.expire, dispatcher.release_lost)
        sweep = each(
            retention.remove_expired,
            retention.remove_old,
            retention.remove_old_events,
            images.uploads.sweep,
            images.orphans.adopt,
        )
        frequent = partial(Loop, interval_seconds=times.check_seconds)
        prompt = partial(Loop, max_pause_seconds=_SHORT_PAUSE_SECONDS)
        rare = partial(Loop, interval_seconds=_SWEEP_SECONDS)
        self._loops = [
            frequent("dispatch", self._submits.run_once, wake_up=wake_ups.queue),
            frequent("poll", self._polls.run_once, wake_up=wake_ups.poll),
            frequent("deliver", self._webhooks.run_once, wake_up=wake_ups.delivery),
            frequent("archive", self._downloads.run_once, wake_up=wake_ups.archive),
            frequent("expire", expire, wake_up=WakeUp()),
            prompt("events", broadcaster.broadcast, wake_up=broadcaster.wake_up, interval_seconds=times.check_seconds),
            prompt("keyring", container.access.keyring.refresh, wake_up=WakeUp(), interval_seconds=REFRESH_SECONDS),
        ]
        # They may wait for the image store, and can be interrupted anywhere.
        self._cleanups = [
            rare("sweep", sweep, wake_up=WakeUp()),
            rare("collect", images.blobs.collect, wake_up=wake_ups.collect),
        ]

    @property
    def stuck(self) -> list[str]:
        """Names of the stuck loops."""
        return [loop.name for loop in [*self._loops, *self._cleanups] if loop.is_stuck]

    def start(self) -> None:
        """Start all loops."""
        for loop in [*self._loops, *self._cleanups]:
            loop.start()

    def begin_stop(self) -> None:
        """Stop all loops while requests in flight are still answered."""
        if self._ending is None:
            _log.info("stopping", submits_in_flight=self._submits.busy, max_seconds=round(self._upstream_seconds))
            for loop in self._loops:
                loop.stop()
            for cleanup in self._cleanups:
                cleanup.cancel()
            self._ending = asyncio.create_task(self._end(), name="stop-loops")

    async def stop(self) -> None:
        """Stop the loops and their work."""
        self.begin_stop()
        if self._ending is not None:
            await self._ending

    async def _end(self) -> None:
        """Wait for the loops, then for their work.

        Submits get time to finish because they can't be repeated.
        """
        began = time.monotonic()
        await asyncio.gather(*(loop.stopped() for loop in [*self._loops, *self._cleanups]))
        cut, *_ = await asyncio.gather(
            self._submits.finish(max(self._upstream_seconds - (time.monotonic() - began), 0)),
            self._webhooks.finish(self._times.webhook_stop_seconds),
            # Any process can repeat a poll or a download.
            self._polls.finish(0),
            self._downloads.finish(0),
        )
        if cut:
            _log.error("submits_cut_off", submits=cut)


def each(*steps: Callable[[], Awaitable[int]]) -> Callable[[], Awaitable[int]]:
    """Combine steps into one that returns their sum.

    If some fail, the others are run nevertheless; then the first error is raised.
    """

    async def run_once() -> int:
        total, errors = 0, []
        for step in steps:
            try:
                total += await step()
            except Exception as error:  # noqa: BLE001 -- raised below
                errors.append(error)
        if errors:
            raise errors[0]
        return total

    return run_once
