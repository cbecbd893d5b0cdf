"""What a process does on its own, besides answering requests: its loops, and how they end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

import structlog

from app.access.keyring import LOOK_SECONDS
from app.container import Container
from app.loops.claim import ClaimLoop
from app.loops.loop import Loop
from app.loops.worker_pool import WorkerPool
from app.settings import Settings
from app.writing.wake_up import WakeUp

_CONCURRENT_POLLS = 16
_CONCURRENT_WEBHOOKS = 64
# Submits in flight get the time of one upstream call, and a little to be recorded.
_RECORD_SECONDS = 5
# Where some submits have just ended, others are about to: one claim for several costs a fraction of one for each.
_GATHER_SECONDS = 0.01
# A download takes some kilobytes, and a descriptor for its file and its connection.
_CONCURRENT_DOWNLOADS = 16
_SWEEP_SECONDS = 60
# Callers wait for events: once the database is back, they must not wait long.
_EVENTS_PAUSE_SECONDS = 1.0
# Nor must revoked keys stay valid for long.
_KEYRING_PAUSE_SECONDS = 1.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopTimes:
    """How often loops check without a wake-up, and how long a stop waits for webhooks; in seconds.

    A webhook that is cut off is sent again, perhaps twice, which its receiver has to expect.
    """

    check_seconds: float = 1.0
    webhook_stop_seconds: float = 3.0


class Background:
    """The loops of one process, and what they have under way."""

    def __init__(self, container: Container, settings: Settings, times: LoopTimes) -> None:
        self._times = times
        wake_ups = container.kernel.wake_ups
        self._upstream_seconds = settings.upstream_timeout_seconds + _RECORD_SECONDS
        self._submits = WorkerPool(settings.upstream_concurrency, wake_ups.queue)
        self._polls = WorkerPool(_CONCURRENT_POLLS, wake_ups.poll)
        self._webhooks = WorkerPool(_CONCURRENT_WEBHOOKS, wake_ups.delivery)
        self._downloads = WorkerPool(_CONCURRENT_DOWNLOADS, wake_ups.archive)
        upstream, images, tasks = container.upstream, container.images, container.tasks
        dispatcher, reconciler, archiver = upstream.dispatcher, upstream.reconciler, images.archiver
        sender, broadcaster = container.webhooks.sender, container.events.broadcaster
        dispatch = ClaimLoop(dispatcher.claim, dispatcher.send, self._submits, gather_seconds=_GATHER_SECONDS)
        poll = ClaimLoop(reconciler.claim, reconciler.poll, self._polls)
        deliver = ClaimLoop(sender.claim, sender.send, self._webhooks)
        archive = ClaimLoop(archiver.claim, archiver.fetch, self._downloads)
        expire = _each(reconciler.expire, dispatcher.release_lost)
        sweep = _each(
            tasks.retention.remove_idempotency_keys,
            tasks.retention.remove_quota_counts,
            tasks.retention.remove_old,
            images.uploads.sweep,
            images.orphans.adopt,
        )
        frequent = partial(Loop, interval=times.check_seconds)
        self._loops = [
            frequent("dispatch", dispatch.run_once, wake_up=wake_ups.queue),
            frequent("poll", poll.run_once, wake_up=wake_ups.poll),
            frequent("deliver", deliver.run_once, wake_up=wake_ups.delivery),
            frequent("archive", archive.run_once, wake_up=wake_ups.archive),
            frequent("events", broadcaster.look, wake_up=broadcaster.wake_up, longest_pause=_EVENTS_PAUSE_SECONDS),
            Loop(
                "keyring",
                container.access.keyring.look,
                wake_up=WakeUp(),
                interval=LOOK_SECONDS,
                longest_pause=_KEYRING_PAUSE_SECONDS,
            ),
            frequent("expire", expire, wake_up=WakeUp()),
            Loop("sweep", sweep, wake_up=WakeUp(), interval=_SWEEP_SECONDS),
            Loop("collect", images.blobs.collect, wake_up=wake_ups.collect, interval=_SWEEP_SECONDS),
        ]

    @property
    def stuck(self) -> list[str]:
        """Names of loops that have made no progress for too long."""
        return [loop.name for loop in self._loops if loop.is_stuck]

    def start(self) -> None:
        """Start all loops."""
        for loop in self._loops:
            loop.start()

    async def stop(self) -> None:
        """Start nothing new, and end what is under way; submits, which can't be repeated, get the time they need."""
        _log.info(
            "stopping",
            submits_in_flight=self._submits.busy,
            waiting_at_most_seconds=round(self._upstream_seconds),
        )
        for loop in self._loops:
            await loop.stop()
        # Any process can poll again or fetch an image again; a submit can't be sent again.
        await self._polls.finish(0)
        await self._downloads.finish(0)
        cut, _ = await asyncio.gather(
            self._submits.finish(self._upstream_seconds), self._webhooks.finish(self._times.webhook_stop_seconds)
        )
        if cut:
            _log.error("submits_cut_off", submits=cut)


def _each(*steps: Callable[[], Awaitable[int]]) -> Callable[[], Awaitable[int]]:
    """Combine steps into one that runs each once; it returns how much they did in total."""

    async def run_once() -> int:
        return sum([await step() for step in steps])

    return run_once
