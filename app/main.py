"""The application: routes and middleware around the services, and the loops beside them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp

from app import __version__
from app.api import callbacks, docs, document, events, health, images, problems, tasks, tokens, uploads, webhooks
from app.api.cors import Cors
from app.api.headers import AnswerHeaders
from app.api.large_bodies import LargeBodies
from app.api.middleware import Gate, RequestContext, answer_fault
from app.api.shortcut import Shortcut
from app.api.small_bodies import SmallBodies
from app.factory import Factory
from app.loops.archive import ArchiveLoop
from app.loops.crew import Crew
from app.loops.deliver import DeliverLoop
from app.loops.dispatch import DispatchLoop
from app.loops.loop import Loop
from app.loops.reconcile import AskLoop, ExpireLoop
from app.loops.sweep import SweepLoop
from app.services.bell import Bell
from app.services.health import HealthCheck
from app.services.keyring import LOOK_SECONDS
from app.services.streams import StreamLimits
from app.settings import Settings

_QUESTIONS_AT_ONCE = 16
_WEBHOOKS_AT_ONCE = 64
# A webhook that is broken off is sent again, perhaps twice, which its receiver has to expect.
_WEBHOOK_SECONDS = 3
# What is in flight gets the time of one upstream call, and a little to be recorded.
_RECORD_SECONDS = 5
# A picture on its way takes some kilobytes, and a descriptor for its file and its connection.
_COPIES_AT_ONCE = 16
_SWEEP_SECONDS = 60
# Pictures inside of JSON are in memory while they arrive. At least one of the largest fits.
_LARGE_BODIES_BYTES = 256 * 1024 * 1024
# People wait for what the feed tells: once the database is back, soon.
_FEED_PAUSE_SECONDS = 1.0
# Revoked keys too are to be noticed soon after.
_KEYRING_PAUSE_SECONDS = 1.0
_log = structlog.get_logger(__name__)


def create_app(
    settings: Settings, *, upstream_url: str, upstream_key: str, stream_limits: StreamLimits | None = None
) -> FastAPI:
    """Build the application. The database must have been migrated."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await factory.start()
        for loop in loops:
            loop.start()
        _log.info("started", version=__version__, address=settings.local_url, docs=f"{settings.local_url}/docs")
        yield
        patience = round(settings.upstream_timeout_seconds + _RECORD_SECONDS)
        _log.info("stopping", submits_in_flight=submits.busy, waiting_at_most_seconds=patience)
        for loop in loops:
            await loop.stop()
        # A question can be asked again by anybody; a submit can't be sent again.
        await questions.finish(0)
        await copies.finish(0)
        cut, _ = await asyncio.gather(
            submits.finish(settings.upstream_timeout_seconds + _RECORD_SECONDS), posts.finish(_WEBHOOK_SECONDS)
        )
        if cut:
            _log.error("submits_cut_off", submits=cut)
        await factory.aclose()
        _log.info("stopped")

    factory = Factory(settings, upstream_url=upstream_url, upstream_key=upstream_key, stream_limits=stream_limits)
    submits = Crew(settings.upstream_concurrency, factory.queue_bell)
    questions = Crew(_QUESTIONS_AT_ONCE, factory.question_bell)
    posts = Crew(_WEBHOOKS_AT_ONCE, factory.delivery_bell)
    copies = Crew(_COPIES_AT_ONCE, factory.archive_bell)
    sweep = SweepLoop(
        [
            factory.sweep.idempotency_keys,
            factory.sweep.quota_counts,
            factory.retention.remove_old,
            factory.uploads.sweep,
            factory.strays.adopt,
        ]
    )
    loops = [
        Loop("dispatch", DispatchLoop(factory.dispatch, submits).run_once, bell=factory.queue_bell),
        Loop("ask", AskLoop(factory.reconcile, questions).run_once, bell=factory.question_bell),
        Loop("deliver", DeliverLoop(factory.deliver, posts).run_once, bell=factory.delivery_bell),
        Loop("archive", ArchiveLoop(factory.archive, copies).run_once, bell=factory.archive_bell),
        Loop("feed", factory.feed.look, bell=factory.feed.bell, longest_pause=_FEED_PAUSE_SECONDS),
        Loop(
            "keyring",
            factory.keyring.look,
            bell=Bell(),
            interval=LOOK_SECONDS,
            longest_pause=_KEYRING_PAUSE_SECONDS,
        ),
        Loop("expire", ExpireLoop(factory.reconcile, factory.dispatch).run_once, bell=Bell()),
        Loop("sweep", sweep.run_once, bell=Bell(), interval=_SWEEP_SECONDS),
        Loop("collect", factory.blobs.collect, bell=factory.collect_bell, interval=_SWEEP_SECONDS),
    ]

    app = FastAPI(
        title="nanobanana-gateway",
        version=__version__,
        summary="Submit image tasks to the NanoBanana API and follow them to their verdict.",
        # A redirect would name whatever host and scheme the request seems to have come by.
        redirect_slashes=False,
        # It looks for providers at each request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.factory = factory
    app.state.large_bodies = LargeBodies(max(_LARGE_BODIES_BYTES, 6 * settings.max_image_bytes))
    app.state.health = HealthCheck(
        database=factory.database,
        is_sandbox=settings.is_sandbox,
        is_storage_reachable=lambda: factory.blobs.is_reachable,
        stuck_loops=lambda: [
            *(loop.name for loop in loops if loop.is_stuck),
            *(["writer"] if factory.writer.is_stuck else []),
        ],
    )
    problems.install(app)
    document.install(app)
    apis = (tasks, events, images, uploads, webhooks, tokens, callbacks, health, docs)
    for router in (api.router for api in apis):
        app.include_router(router)
    # Around the framework's own layers, so that what takes the shortcut passes none of them.
    shortcut = Shortcut(
        SmallBodies(app.build_middleware_stack()),
        routes=[*tasks.router.routes, *callbacks.router.routes],
        endpoints=[tasks.submit, tasks.get_task, callbacks.receive],
    )
    served: ASGIApp = Gate(
        shortcut,
        is_open=factory.access.is_open,
        allowed_hosts=settings.allowed_hosts,
        origins=[*settings.cors_origins, *settings.own_origins],
    )
    app.middleware_stack = surround(settings, served)
    return app


def surround(settings: Settings, app: ASGIApp) -> ASGIApp:
    """Put around an application what all answers of the service have: id, log line, security headers, CORS."""
    fault: ASGIApp = answer_fault
    if settings.cors_origins:
        app, fault = Cors(app, settings.cors_origins), Cors(fault, settings.cors_origins)
    is_https = (settings.public_base_url or "").startswith("https://")
    return RequestContext(
        app,
        answer_headers=AnswerHeaders(is_https=is_https),
        fault=fault,
        trusted_proxies=settings.trusted_proxies,
    )
