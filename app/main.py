"""The application: routes around the services, middleware around the routes, and the background loops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp

from app import __version__
from app.api import callbacks, docs, document, events, health, images, problems, tasks, tokens, uploads, webhooks
from app.api.cors import Cors
from app.api.direct_routes import DirectRoutes
from app.api.guards import HostGuard, OriginGuard
from app.api.headers import AnswerHeaders
from app.api.large_bodies import LargeBodies
from app.api.middleware import RequestContext, answer_fault
from app.api.small_bodies import SmallBodies
from app.factory import Factory
from app.loops.background import Background, LoopTimes
from app.services.health import HealthCheck
from app.services.streams import StreamLimits
from app.settings import Settings

# Pictures inside of JSON are in memory while they arrive. At least one of the largest fits.
_LARGE_BODIES_BYTES = 256 * 1024 * 1024
_log = structlog.get_logger(__name__)


def create_app(
    settings: Settings,
    *,
    upstream_url: str,
    upstream_key: str,
    stream_limits: StreamLimits | None = None,
    loop_times: LoopTimes | None = None,
) -> FastAPI:
    """Build the application. The database must have been migrated."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        await factory.start()
        background.start()
        _log.info("started", version=__version__, address=settings.local_url, docs=f"{settings.local_url}/docs")
        warming = asyncio.create_task(asyncio.to_thread(_warm_up, app), name="warm-up")
        yield {"factory": factory, "large_bodies": large_bodies, "health": health_check}
        await background.stop()
        await factory.aclose()
        await warming
        _log.info("stopped")

    factory = Factory(settings, upstream_url=upstream_url, upstream_key=upstream_key, stream_limits=stream_limits)
    background = Background(factory, settings, loop_times or LoopTimes())
    large_bodies = LargeBodies(max(_LARGE_BODIES_BYTES, 6 * settings.max_image_bytes))
    health_check = HealthCheck(
        database=factory.database,
        writer=factory.writer,
        is_sandbox=settings.is_sandbox,
        is_storage_reachable=lambda: factory.blobs.is_reachable,
        stuck_loops=lambda: [*background.stuck, *(["writer"] if factory.writer.is_stuck else [])],
    )

    app = FastAPI(
        title="nanobanana-gateway",
        version=__version__,
        summary="Submit image tasks to the NanoBanana API and follow them to their result.",
        description=document.DESCRIPTION,
        contact={"name": "The operator of this service"},
        license_info={"name": "MIT", "identifier": "MIT"},
        # Relative, so that it is right behind any proxy and under any name.
        servers=[{"url": "/", "description": "This service"}],
        openapi_tags=document.TAGS,
        webhooks=webhooks.outgoing,
        generate_unique_id_function=lambda route: route.name,
        # A redirect would name whatever host and scheme the request seems to have come by.
        redirect_slashes=False,
        # It looks for providers at each request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.factory = factory
    problems.install(app)
    document.install(app)
    # FastAPI completes a router when a request gets as far as that: probes must not wait for all the others.
    apis = (health, tasks, events, images, uploads, webhooks, tokens, callbacks, docs)
    for router in (api.router for api in apis):
        app.include_router(router)
    return app


def with_middleware(settings: Settings, app: FastAPI) -> ASGIApp:
    """Put around the application what every request passes through, outermost last."""
    is_open = app.state.factory.access.is_open
    origins = [*settings.cors_origins, *settings.own_origins]
    direct = DirectRoutes(
        SmallBodies(app),
        routes=[*tasks.router.routes, *callbacks.router.routes],
        endpoints=[tasks.submit_task, tasks.get_task, callbacks.receive_callback],
    )
    guarded = HostGuard(
        OriginGuard(direct, is_open=is_open, origins=origins), is_open=is_open, allowed_hosts=settings.allowed_hosts
    )
    return surround(settings, guarded)


def _warm_up(app: FastAPI) -> None:
    """Let FastAPI complete all routers, which else the first request would wait for."""
    for route in app.routes:
        route.matches({"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []})


def surround(settings: Settings, app: ASGIApp) -> ASGIApp:
    """Put around an application what all answers have: request id, log line, security headers, CORS."""
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
