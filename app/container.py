"""Builds, starts and stops the parts of the service."""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.access.authenticator import Authenticator
from app.access.keyring import Keyring
from app.access.signing_secrets import load_secrets
from app.clock import Clock
from app.db.engine import Connection, Database
from app.db.notifier import Notifier
from app.domain.browser_token import BrowserTokens
from app.domain.callback import CALLBACK_PATH, CallbackTokens
from app.domain.destination import DestinationRules
from app.domain.event import TaskEvent
from app.domain.policy import FIRST_PAUSE_MS, MAX_PAUSE_MS, Policy
from app.events.broadcaster import EventBroadcaster
from app.events.streams import StreamLimits, Streams
from app.images.archiver import Archiver
from app.images.blobs import Blobs
from app.images.fetcher import ImageFetcher
from app.images.files import ImageFiles
from app.images.inputs import InputCheck
from app.images.orphans import OrphanFinder
from app.images.service import ImageService
from app.images.uploads import UploadService
from app.imaging.executor import ImageExecutor
from app.outbound.downloads import Downloads
from app.outbound.environment import trust_store
from app.server.limits import ConnectionLimits
from app.settings import Settings, database_url
from app.shapes.health import StorageState
from app.storage.spool import Spool
from app.storage.store import open_store
from app.tasks.admission import Admission
from app.tasks.retention import Retention
from app.tasks.service import TaskService
from app.tasks.waiting import TaskWaiter
from app.upstream.callbacks import CallbackService
from app.upstream.client import UpstreamClient
from app.upstream.dispatcher import Dispatcher
from app.upstream.rate_limit import SharedRateLimit, submit_rate_limit
from app.upstream.reconciler import Reconciler
from app.upstream.scrub import Scrubber
from app.web.open_requests import OpenLimits, OpenRequests
from app.webhooks.client import WebhookClient
from app.webhooks.deliveries import DeliveryService
from app.webhooks.secrets import WebhookSecrets
from app.webhooks.sender import WebhookSender
from app.writing.clock_repair import ClockRepair
from app.writing.wake_up import WakeUp
from app.writing.writer import Writer


class WakeUps:
    """The wake-ups of the loops."""

    def __init__(self) -> None:
        self.queue, self.poll, self.delivery, self.archive, self.collect = (WakeUp() for _ in range(5))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """The parts that every feature uses."""

    settings: Settings
    clock: Clock
    policy: Policy
    database: Database
    writer: Writer
    wake_ups: WakeUps
    destinations: DestinationRules
    tls: ssl.SSLContext
    upstream_url: str
    upstream_key: str
    secrets: Sequence[str]


class Access:
    """Who may call."""

    def __init__(self, kernel: Kernel) -> None:
        database, clock = kernel.database, kernel.clock
        self.keyring = Keyring(database=database, writer=kernel.writer, clock=clock)
        tokens = BrowserTokens(kernel.secrets)
        self.authenticator = Authenticator(
            database=database, clock=clock, auth=kernel.settings.auth, keyring=self.keyring, tokens=tokens
        )


class Images:
    """Copies of results, and uploads."""

    def __init__(self, kernel: Kernel) -> None:
        settings, database, writer, clock = kernel.settings, kernel.database, kernel.writer, kernel.clock
        self.spool = Spool(Path(settings.data_dir) / "tmp")
        self.executor = ImageExecutor()
        trusted_origin = kernel.upstream_url if settings.is_sandbox else None
        self.downloads = Downloads(kernel.destinations, trusted_origin=trusted_origin, tls=kernel.tls)
        self.store = open_store(settings.storage_url, Path(settings.data_dir))
        self.blobs = Blobs(database=database, writer=writer, store=self.store, clock=clock)
        self.orphans = OrphanFinder(database=database, writer=writer, store=self.store, clock=clock)
        fetcher = ImageFetcher(
            blobs=self.blobs,
            downloads=self.downloads,
            executor=self.executor,
            spool=self.spool,
            is_on=settings.keep_images,
            max_bytes=settings.max_image_bytes,
        )
        self.archiver = Archiver(
            database=database, writer=writer, fetcher=fetcher, clock=clock, wake_up=kernel.wake_ups.archive
        )
        self.service = ImageService(database=database, archiver=self.archiver, store=self.store, clock=clock)
        self.files = ImageFiles(store=self.store, executor=self.executor, spool=self.spool)
        self.uploads = UploadService(
            database=database,
            writer=writer,
            blobs=self.blobs,
            executor=self.executor,
            spool=self.spool,
            clock=clock,
            policy=kernel.policy,
            base_url=settings.base_url,
            is_public=settings.is_sandbox or settings.public_base_url is not None,
            lifetime=round(settings.upload_ttl_seconds * 1000),
            max_bytes=settings.max_upload_bytes,
            daily_bytes=settings.upload_bytes_per_day,
        )
        self.inputs = InputCheck(
            destinations=kernel.destinations, base_url=settings.base_url, is_sandbox=settings.is_sandbox
        )

    @property
    def storage_state(self) -> StorageState:
        """The state of storage in `/readyz`."""
        if not self.store.is_reachable:
            return "unreachable"
        return "ok" if self.spool.gate.is_open else "unwritable"


class Events:
    """Events for streams and waiting requests."""

    def __init__(self, kernel: Kernel, limits: StreamLimits, open_limits: OpenLimits) -> None:
        settings = kernel.settings
        self.open_requests = OpenRequests(open_limits)
        self.broadcaster = EventBroadcaster(kernel.database, base_url=settings.base_url)
        self.notifier = Notifier(kernel.database, self.broadcaster.wake)
        self.streams = Streams(
            database=kernel.database, broadcaster=self.broadcaster, limits=limits, open_requests=self.open_requests
        )


class Upstream:
    """Tasks sent to the upstream, and results received from it."""

    def __init__(self, kernel: Kernel) -> None:
        settings, wake_ups = kernel.settings, kernel.wake_ups
        self._clock = kernel.clock
        tokens = CallbackTokens(kernel.secrets)
        callback_base = (settings.local_url if settings.is_sandbox else settings.base_url) + CALLBACK_PATH
        self.rate_limit: SharedRateLimit | None = None
        if settings.upstream_rate_limit is not None:
            count, seconds = settings.upstream_rate_limit
            longest_call = kernel.policy.upstream_timeout
            self.rate_limit = submit_rate_limit(count, window=round(seconds * 1000), longest_call=longest_call)
        self.client = UpstreamClient(
            base_url=kernel.upstream_url,
            api_key=kernel.upstream_key,
            timeout=settings.upstream_timeout_seconds,
            concurrency=settings.upstream_concurrency,
            tls=kernel.tls,
        )
        self.callbacks = CallbackService(
            writer=kernel.writer,
            tokens=tokens,
            clock=kernel.clock,
            policy=kernel.policy,
            poll_due=wake_ups.poll,
            # The sandbox's key is not secret, and URLs may contain it.
            scrubber=Scrubber("" if settings.is_sandbox else kernel.upstream_key),
        )
        self.dispatcher = Dispatcher(
            database=kernel.database,
            writer=kernel.writer,
            client=self.client,
            clock=kernel.clock,
            policy=kernel.policy,
            rate_limit=self.rate_limit,
            callback_url=lambda task_id: f"{callback_base}/{tokens.sign(task_id)}",
            wake_up=wake_ups.queue,
            concurrency=settings.upstream_concurrency,
        )
        self.reconciler = Reconciler(writer=kernel.writer, client=self.client, clock=kernel.clock, policy=kernel.policy)

    def prepare_rate_limit(self, connection: Connection) -> None:
        """Create the slots of the shared rate limit."""
        if self.rate_limit is not None:
            self.rate_limit.prepare(connection, self._clock.now())


class Webhooks:
    """Webhooks to clients."""

    def __init__(self, kernel: Kernel) -> None:
        settings, database, writer = kernel.settings, kernel.database, kernel.writer
        self.client = WebhookClient(kernel.destinations, tls=kernel.tls)
        self.secrets = WebhookSecrets(database=database, writer=writer, clock=kernel.clock)
        self.deliveries = DeliveryService(
            database=database, writer=writer, destinations=kernel.destinations, wake_up=kernel.wake_ups.delivery
        )
        self.sender = WebhookSender(
            database=database,
            writer=writer,
            client=self.client,
            signing_secrets=self.secrets,
            clock=kernel.clock,
            schedule=[round(seconds * 1000) for seconds in settings.webhook_retry_schedule],
            base_url=settings.base_url,
            wake_up=kernel.wake_ups.delivery,
        )


class Tasks:
    """The task lifecycle, from submit to deletion."""

    def __init__(self, kernel: Kernel, images: Images, events: Events, upstream: Upstream) -> None:
        settings, database, writer, clock = kernel.settings, kernel.database, kernel.writer, kernel.clock
        self.service = TaskService(
            database=database,
            writer=writer,
            clock=clock,
            policy=kernel.policy,
            admission=Admission(database=database, clock=clock, rate=settings.key_rate_limit),
            extend_expiry=images.uploads.extend_expiry,
            collect=kernel.wake_ups.collect,
            rate_exhausted_until=upstream.rate_limit.exhausted_until if upstream.rate_limit else None,
        )
        self.waiter = TaskWaiter(broadcaster=events.broadcaster, tasks=self.service, open_requests=events.open_requests)
        self.retention = Retention(
            database=database,
            writer=writer,
            clock=clock,
            days=settings.retention_days,
            event_days=settings.event_retention_days,
        )


class Container:
    """The parts of one process, grouped by feature.

    `unwell_pauses` are the shortest and the longest pause (ms) while the upstream has problems.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        upstream_url: str,
        upstream_key: str,
        clock: Clock | None = None,
        stream_limits: StreamLimits | None = None,
        open_limits: OpenLimits | None = None,
        unwell_pauses: tuple[int, int] | None = None,
    ) -> None:
        database, wake_ups = Database(database_url(settings)), WakeUps()
        clock = clock or database.clock
        self.kernel = Kernel(
            settings=settings,
            clock=clock,
            policy=_policy(settings, unwell_pauses),
            database=database,
            writer=Writer(database, clock, self._on_commit, keeps_images=settings.keep_images),
            wake_ups=wake_ups,
            destinations=DestinationRules(settings.allow_networks),
            # Shared, because loading CA certificates is slower than everything else here.
            tls=trust_store(),
            upstream_url=upstream_url,
            upstream_key=upstream_key,
            secrets=load_secrets(settings),
        )
        self.access = Access(self.kernel)
        self.images = Images(self.kernel)
        open_limits = open_limits or OpenLimits.of_connections(ConnectionLimits().connections)
        self.events = Events(self.kernel, stream_limits or StreamLimits(), open_limits)
        self.upstream = Upstream(self.kernel)
        self.webhooks = Webhooks(self.kernel)
        self.clock_repair = ClockRepair(
            writer=self.kernel.writer,
            clock=clock,
            policy=self.kernel.policy,
            webhook_pauses=self.webhooks.sender.schedule,
            cap_rate_slots=self.upstream.rate_limit.cap if self.upstream.rate_limit else None,
        )
        self.tasks = Tasks(self.kernel, self.images, self.events, self.upstream)

    async def start(self) -> None:
        """Start everything but the loops."""
        self.images.spool.clear()
        self.kernel.writer.start()
        if not self.kernel.settings.is_postgresql:
            # No other process can have claimed images.
            await self.images.archiver.release_all()
        await self.kernel.database.write(self.upstream.prepare_rate_limit)
        self.events.notifier.start()

    def stop_waiting(self) -> None:
        """End waits and streams, so they don't delay shutdown."""
        self.events.broadcaster.stop()
        self.images.service.stop()

    async def aclose(self) -> None:
        """Commit waiting work and close connections, after the loops stop."""
        await self.images.service.aclose()
        await self.images.files.aclose()
        await self.kernel.writer.aclose()
        self.images.executor.close()
        await asyncio.gather(
            self.images.downloads.aclose(),
            self.events.notifier.aclose(),
            self.upstream.client.aclose(),
            self.webhooks.client.aclose(),
        )
        await self.kernel.database.aclose()

    def _on_commit(self, events: Sequence[TaskEvent]) -> None:
        wake_ups, types = self.kernel.wake_ups, {event.type for event in events}
        self.events.broadcaster.wake()
        if "task.queued" in types:
            wake_ups.queue.wake()
        if "task.succeeded" in types and self.kernel.settings.keep_images:
            wake_ups.archive.wake()
        if any(event.is_for_webhook for event in events):
            wake_ups.delivery.wake()


def _policy(settings: Settings, unwell_pauses: tuple[int, int] | None) -> Policy:
    """Convert the settings' seconds to milliseconds."""
    first_pause, max_pause = unwell_pauses or (FIRST_PAUSE_MS, MAX_PAUSE_MS)
    return Policy(
        queue_timeout=round(settings.queue_timeout_seconds * 1000),
        task_timeout=round(settings.task_timeout_seconds * 1000),
        poll_after=round(settings.effective_poll_after_seconds * 1000),
        submit_tries=settings.submit_retries,
        hold_retry=round(settings.hold_retry_seconds * 1000),
        upstream_timeout=round(settings.upstream_timeout_seconds * 1000),
        first_pause=first_pause,
        max_pause=max_pause,
    )
