"""All that a process does by itself, beside answering requests: which loops there are, and how they end."""

import asyncio

import structlog

from app.factory import Factory
from app.loops.claim import ClaimLoop
from app.loops.crew import Crew
from app.loops.expire import ExpireLoop
from app.loops.loop import Loop
from app.loops.sweep import SweepLoop
from app.services.keyring import LOOK_SECONDS
from app.settings import Settings
from app.writing.wake_up import WakeUp

_QUESTIONS_AT_ONCE = 16
_WEBHOOKS_AT_ONCE = 64
# A webhook that is broken off is sent again, perhaps twice, which its receiver has to expect.
_WEBHOOK_SECONDS = 3
# What is in flight gets the time of one upstream call, and a little to be recorded.
_RECORD_SECONDS = 5
# Where some submits have just ended, others are about to: one claim for several costs a fraction of one for each.
_GATHER_SECONDS = 0.01
# A picture on its way takes some kilobytes, and a descriptor for its file and its connection.
_COPIES_AT_ONCE = 16
_SWEEP_SECONDS = 60
# People wait for what the feed tells: once the database is back, soon.
_FEED_PAUSE_SECONDS = 1.0
# Revoked keys too are to be noticed soon after.
_KEYRING_PAUSE_SECONDS = 1.0
_log = structlog.get_logger(__name__)


class Background:
    """The loops of one process, and what they have under way."""

    def __init__(self, factory: Factory, settings: Settings) -> None:
        self._upstream_seconds = settings.upstream_timeout_seconds + _RECORD_SECONDS
        self._submits = Crew(settings.upstream_concurrency, factory.queue_wake_up)
        self._questions = Crew(_QUESTIONS_AT_ONCE, factory.poll_wake_up)
        self._posts = Crew(_WEBHOOKS_AT_ONCE, factory.delivery_wake_up)
        self._copies = Crew(_COPIES_AT_ONCE, factory.archive_wake_up)
        dispatch, reconcile, deliver, archive = factory.dispatch, factory.reconcile, factory.deliver, factory.archive
        send = ClaimLoop(dispatch.claim, dispatch.send, self._submits, gather_seconds=_GATHER_SECONDS)
        ask = ClaimLoop(reconcile.claim, reconcile.ask, self._questions)
        post = ClaimLoop(deliver.claim, deliver.send, self._posts)
        fetch = ClaimLoop(archive.claim, archive.fetch, self._copies)
        expire = ExpireLoop(reconcile, dispatch)
        sweep = SweepLoop(
            [
                factory.sweep.idempotency_keys,
                factory.sweep.quota_counts,
                factory.retention.remove_old,
                factory.uploads.sweep,
                factory.strays.adopt,
            ]
        )
        self._loops = [
            Loop("dispatch", send.run_once, wake_up=factory.queue_wake_up),
            Loop("ask", ask.run_once, wake_up=factory.poll_wake_up),
            Loop("deliver", post.run_once, wake_up=factory.delivery_wake_up),
            Loop("archive", fetch.run_once, wake_up=factory.archive_wake_up),
            Loop("feed", factory.feed.look, wake_up=factory.feed.wake_up, longest_pause=_FEED_PAUSE_SECONDS),
            Loop(
                "keyring",
                factory.keyring.look,
                wake_up=WakeUp(),
                interval=LOOK_SECONDS,
                longest_pause=_KEYRING_PAUSE_SECONDS,
            ),
            Loop("expire", expire.run_once, wake_up=WakeUp()),
            Loop("sweep", sweep.run_once, wake_up=WakeUp(), interval=_SWEEP_SECONDS),
            Loop("collect", factory.blobs.collect, wake_up=factory.collect_wake_up, interval=_SWEEP_SECONDS),
        ]

    @property
    def stuck(self) -> list[str]:
        """Name the loops that have not come round for too long."""
        return [loop.name for loop in self._loops if loop.is_stuck]

    def start(self) -> None:
        """Start all loops."""
        for loop in self._loops:
            loop.start()

    async def stop(self) -> None:
        """Start nothing more, and end what is under way: what can't be sent again gets the time that it needs."""
        _log.info(
            "stopping",
            submits_in_flight=self._submits.busy,
            waiting_at_most_seconds=round(self._upstream_seconds),
        )
        for loop in self._loops:
            await loop.stop()
        # A question can be asked again by anybody, and a picture fetched; a submit can't be sent again.
        await self._questions.finish(0)
        await self._copies.finish(0)
        cut, _ = await asyncio.gather(
            self._submits.finish(self._upstream_seconds), self._posts.finish(_WEBHOOK_SECONDS)
        )
        if cut:
            _log.error("submits_cut_off", submits=cut)
