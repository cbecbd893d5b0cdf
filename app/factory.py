"""Builds every part of the service from the settings, once, and starts and stops them in the right order."""

import ssl
from collections.abc import Sequence
from pathlib import Path

import httpx

from app.clock import Clock, SystemClock
from app.db.engine import Connection, Database
from app.db.notices import Notices
from app.domain.browser_token import BrowserTokens
from app.domain.callback import CallbackTokens
from app.domain.destination import DestinationRules
from app.domain.event import TaskEvent
from app.domain.policy import Policy
from app.imaging.workshop import Workshop
from app.outbound.downloads import Downloads
from app.outbound.webhooks import WebhookClient
from app.services.access import Access
from app.services.admission import Admission
from app.services.archiver import Archiver
from app.services.blobs import Blobs
from app.services.callbacks import Callbacks
from app.services.deliveries import Deliveries
from app.services.dispatcher import Dispatcher
from app.services.feed import Feed
from app.services.files import Files
from app.services.image_fetcher import ImageFetcher
from app.services.images import Images
from app.services.keyring import Keyring
from app.services.orphans import Orphans
from app.services.rate_limit import SharedRateLimit, submit_rate_limit
from app.services.reconciler import POLL_RATE_LIMIT, Reconciler
from app.services.retention import Retention
from app.services.secret import load_secrets
from app.services.streams import StreamLimits, Streams
from app.services.tasks import Tasks
from app.services.uploads import Uploads
from app.services.waiting import Waiting
from app.services.webhook_secrets import WebhookSecrets
from app.services.webhook_sender import WebhookSender
from app.services.writer import Writer
from app.settings import Settings
from app.storage.spool import Spool
from app.storage.store import open_store
from app.upstream.client import UpstreamClient
from app.upstream.scrub import Scrubber
from app.writing.wake_up import WakeUp

_QUEUED = "task.queued"
_SUCCEEDED = "task.succeeded"
CALLBACK_PATH = "/callbacks/nanobanana"


class Factory:
    """The parts of one process. `upstream_url` and `upstream_key` say which upstream it speaks to."""

    def __init__(
        self,
        settings: Settings,
        *,
        upstream_url: str,
        upstream_key: str,
        clock: Clock | None = None,
        stream_limits: StreamLimits | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.policy = make_policy(settings)
        self.database = Database(database_url(settings))
        self.base_url = settings.base_url
        self.queue_wake_up, self.poll_wake_up, self.delivery_wake_up = WakeUp(), WakeUp(), WakeUp()
        self.archive_wake_up, self.collect_wake_up = WakeUp(), WakeUp()
        self.writer = Writer(self.database, self.clock, self._wake, keeps_images=settings.keep_images)
        # Reading the list of authorities takes longer than all the rest here: once is enough.
        tls = httpx.create_ssl_context()
        self.client = UpstreamClient(
            base_url=upstream_url,
            api_key=upstream_key,
            timeout=settings.upstream_timeout_seconds,
            concurrency=settings.upstream_concurrency,
            tls=tls,
        )
        secrets = load_secrets(settings)
        tokens, browser_tokens = CallbackTokens(secrets), BrowserTokens(secrets)
        callback_base = (settings.local_url if settings.is_sandbox else settings.base_url) + CALLBACK_PATH
        self.keyring = Keyring(database=self.database, writer=self.writer, clock=self.clock)
        self.access = Access(
            database=self.database, clock=self.clock, settings=settings, keyring=self.keyring, tokens=browser_tokens
        )
        self.admission = Admission(database=self.database, clock=self.clock, rate=settings.key_rate_limit)
        destinations = DestinationRules(settings.allow_networks)
        self._make_image_services(destinations, tls, trusted_origin=upstream_url if settings.is_sandbox else None)
        self.tasks = Tasks(
            database=self.database,
            writer=self.writer,
            clock=self.clock,
            policy=self.policy,
            admission=self.admission,
            hold=self.uploads.hold,
        )
        self.feed = Feed(self.database, base_url=self.base_url)
        # SQLite has one process, which knows of all its commits.
        self._notices = Notices(database_url(settings), self.feed.wake) if settings.is_postgresql else None
        limits = stream_limits or StreamLimits()
        self.streams = Streams(database=self.database, feed=self.feed, limits=limits)
        self.waiting = Waiting(feed=self.feed, tasks=self.tasks, most_waiting=limits.most_waits)
        self.callbacks = Callbacks(
            writer=self.writer,
            tokens=tokens,
            clock=self.clock,
            policy=self.policy,
            poll_due=self.poll_wake_up,
            # The sandbox's key is a word that its addresses may well contain, and no secret.
            scrubber=Scrubber("" if settings.is_sandbox else upstream_key),
        )
        self._rate_limit = make_rate_limit(settings, self.policy)
        self.dispatcher = Dispatcher(
            database=self.database,
            writer=self.writer,
            client=self.client,
            clock=self.clock,
            policy=self.policy,
            rate_limit=self._rate_limit,
            callback_url=lambda task_id: f"{callback_base}/{tokens.sign(task_id)}",
            wake_up=self.queue_wake_up,
        )
        self.reconciler = Reconciler(writer=self.writer, client=self.client, clock=self.clock, policy=self.policy)
        self.webhook_client = WebhookClient(destinations, tls=tls)
        self.webhook_secrets = WebhookSecrets(database=self.database, writer=self.writer, clock=self.clock)
        self.deliveries = Deliveries(
            database=self.database, writer=self.writer, destinations=destinations, wake_up=self.delivery_wake_up
        )
        self.webhook_sender = WebhookSender(
            database=self.database,
            writer=self.writer,
            client=self.webhook_client,
            signing_secrets=self.webhook_secrets,
            clock=self.clock,
            schedule=[round(seconds * 1000) for seconds in settings.webhook_retry_schedule],
            base_url=self.base_url,
            wake_up=self.delivery_wake_up,
        )
        self.retention = Retention(
            database=self.database, writer=self.writer, clock=self.clock, days=settings.retention_days
        )

    def _make_image_services(
        self, destinations: DestinationRules, tls: ssl.SSLContext, *, trusted_origin: str | None
    ) -> None:
        settings = self.settings
        self.spool = Spool(Path(settings.data_dir) / "tmp")
        self.workshop = Workshop()
        self.downloads = Downloads(destinations, trusted_origin=trusted_origin, tls=tls)
        self.store = open_store(settings.storage_url, Path(settings.data_dir))
        self.blobs = Blobs(database=self.database, writer=self.writer, store=self.store, clock=self.clock)
        self.orphans = Orphans(database=self.database, writer=self.writer, store=self.store, clock=self.clock)
        fetcher = ImageFetcher(
            blobs=self.blobs,
            downloads=self.downloads,
            workshop=self.workshop,
            spool=self.spool,
            is_on=settings.keep_images,
            max_bytes=settings.max_image_bytes,
        )
        self.archiver = Archiver(
            database=self.database,
            writer=self.writer,
            fetcher=fetcher,
            clock=self.clock,
            wake_up=self.archive_wake_up,
        )
        self.images = Images(database=self.database, archiver=self.archiver, store=self.store, clock=self.clock)
        self.files = Files(store=self.store, workshop=self.workshop, spool=self.spool)
        self.uploads = Uploads(
            database=self.database,
            writer=self.writer,
            blobs=self.blobs,
            workshop=self.workshop,
            spool=self.spool,
            clock=self.clock,
            policy=self.policy,
            base_url=self.base_url,
            is_public=settings.is_sandbox or settings.public_base_url is not None,
            lifetime=round(settings.upload_ttl_seconds * 1000),
            max_bytes=settings.max_image_bytes,
        )

    async def start(self) -> None:
        """Start the writer and create the slots that the rate limits need."""
        self.spool.clear()
        self.writer.start()
        if not self.settings.is_postgresql:
            # Their claims were made by an earlier process, which is gone.
            await self.archiver.release_all()
        await self.database.write(self._prepare_rate_slots)
        if self._notices is not None:
            self._notices.start()

    def _prepare_rate_slots(self, connection: Connection) -> None:
        POLL_RATE_LIMIT.prepare(connection, self.clock.now())
        if self._rate_limit is not None:
            self._rate_limit.prepare(connection, self.clock.now())

    def stop_waiting(self) -> None:
        """Answer those who wait and follow: open connections are not to hold up the end of the process."""
        self.feed.stop()
        self.images.stop()

    async def aclose(self) -> None:
        """Commit what waits and close all connections. The loops must have stopped."""
        await self.images.aclose()
        await self.files.aclose()
        await self.writer.aclose()
        await self.downloads.aclose()
        self.workshop.close()
        if self._notices is not None:
            await self._notices.aclose()
        await self.client.aclose()
        await self.webhook_client.aclose()
        await self.database.aclose()

    def _wake(self, events: Sequence[TaskEvent]) -> None:
        self.feed.wake()
        if any(event.type == _QUEUED for event in events):
            self.queue_wake_up.wake()
        if self.settings.keep_images and any(event.type == _SUCCEEDED for event in events):
            self.archive_wake_up.wake()
        if any(event.is_for_webhook for event in events):
            self.delivery_wake_up.wake()


def database_url(settings: Settings) -> str:
    """Return where the database is: as set, or a SQLite file in `DATA_DIR`."""
    return settings.database_url or f"sqlite:///{Path(settings.data_dir) / 'gateway.db'}"


def make_policy(settings: Settings) -> Policy:
    """Turn the operator's seconds into the milliseconds of the task's rules."""
    return Policy(
        queue_timeout=round(settings.queue_timeout_seconds * 1000),
        task_timeout=round(settings.task_timeout_seconds * 1000),
        poll_after=round(settings.question_after_seconds * 1000),
        submit_tries=settings.submit_retries,
        hold_retry=round(settings.hold_retry_seconds * 1000),
        upstream_timeout=round(settings.upstream_timeout_seconds * 1000),
    )


def make_rate_limit(settings: Settings, policy: Policy) -> SharedRateLimit | None:
    """Turn N/S into a limit on submits; None for none."""
    if settings.upstream_rate_limit is None:
        return None
    count, seconds = settings.upstream_rate_limit
    return submit_rate_limit(count, window=round(seconds * 1000), longest_call=policy.upstream_timeout)
