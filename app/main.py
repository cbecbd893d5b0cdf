"""The application: services, routes, middleware and background loops."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.types import ASGIApp

from app import __version__
from app.access import routes as access_routes
from app.access.authenticator import any_key_exists
from app.background import Background, LoopTimes
from app.clock import Clock
from app.container import Container
from app.events import routes as event_routes
from app.events.streams import StreamLimits
from app.images import routes as image_routes
from app.images import upload_routes
from app.operations import routes as operations_routes
from app.operations.health import HealthCheck
from app.settings import Settings
from app.tasks import routes as task_routes
from app.upstream import routes as callback_routes
from app.web import docs, openapi, problems
from app.web.cors import Cors
from app.web.direct_routes import DirectRoutes
from app.web.guards import Guarded, HostGuard, OriginGuard, check_small_body
from app.web.headers import ResponseHeaders
from app.web.memory_budget import MemoryBudget
from app.web.middleware import RequestContext, respond_internal_error
from app.web.open_requests import OpenLimits
from app.web.prefix import WithoutPrefix
from app.web.refusals import SpareConnections, respond_overloaded
from app.web.services import Services, by_type
from app.webhooks import routes as webhook_routes

# Images in JSON bodies are held in memory while they arrive. At least one of maximum size must fit.
_LARGE_BODIES_BYTES = 256 * 1024 * 1024
_log = structlog.get_logger(__name__)


def create_app(
    settings: Settings,
    *,
    upstream_url: str,
    upstream_key: str,
    stream_limits: StreamLimits | None = None,
    open_limits: OpenLimits | None = None,
    loop_times: LoopTimes | None = None,
    clock: Clock | None = None,
    unwell_pauses: tuple[int, int] | None = None,
) -> FastAPI:
    """Build the application. The database must be migrated."""
    container = Container(
        settings,
        upstream_url=upstream_url,
        upstream_key=upstream_key,
        clock=clock,
        stream_limits=stream_limits,
        open_limits=open_limits,
        unwell_pauses=unwell_pauses,
    )
    background = Background(container, settings, loop_times or LoopTimes())
    services = _services(container, background)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        await container.start()
        background.start()
        auth = settings.auth or ("keys" if await any_key_exists(container.kernel.database) else "none")
        _log.info("started", version=__version__, auth=auth, **_summary(settings, upstream_url))
        warming = asyncio.create_task(asyncio.to_thread(_warm_up, app), name="warm-up")
        yield {"services": services, "authenticator": container.access.authenticator}
        await background.stop()
        await container.aclose()
        await warming
        _log.info("stopped")

    app = FastAPI(
        title="nanobanana-gateway",
        version=__version__,
        summary="Submit image tasks to the NanoBanana API and follow them to their result.",
        description=openapi.DESCRIPTION,
        contact={"name": "The operator of this service"},
        license_info={"name": "MIT", "identifier": "MIT"},
        # Without a host name, so that it is correct behind any proxy.
        servers=[{"url": settings.path_prefix or "/", "description": "This service"}],
        openapi_tags=openapi.TAGS,
        webhooks=webhook_routes.outgoing,
        generate_unique_id_function=lambda route: route.name,
        # A redirect would contain the request's own host and scheme, which may be wrong behind a proxy.
        redirect_slashes=False,
        # Otherwise FastAPI would search for telemetry providers on each request.
        telemetry={"tracing": False, "metrics": False, "logs": False},
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    app.state.container = container

    def begin_stop() -> None:
        container.stop_waiting()
        background.begin_stop()

    app.state.begin_stop = begin_stop
    problems.install(app)
    openapi.install(app)
    # FastAPI builds a router's routes on its first request. Health probes come first so they don't wait for the others.
    for routes in (
        operations_routes,
        task_routes,
        event_routes,
        image_routes,
        upload_routes,
        webhook_routes,
        access_routes,
        callback_routes,
        docs,
    ):
        app.include_router(routes.router)
    return app


def _services(container: Container, background: Background) -> Services:
    """Return the services that routes use."""
    kernel, images, webhooks = container.kernel, container.images, container.webhooks
    health_check = HealthCheck(
        database=kernel.database,
        writer=kernel.writer,
        clock=kernel.clock,
        is_sandbox=kernel.settings.is_sandbox,
        storage_state=lambda: images.storage_state,
        stuck_loops=lambda: [*background.stuck, *(["writer"] if kernel.writer.has_died else [])],
    )
    return by_type(
        kernel.settings,
        container.tasks.service,
        container.tasks.waiter,
        container.upstream.callbacks,
        container.events.streams,
        container.access.authenticator,
        images.service,
        images.files,
        images.uploads,
        images.inputs,
        webhooks.deliveries,
        webhooks.secrets,
        health_check,
        MemoryBudget(max(_LARGE_BODIES_BYTES, 6 * kernel.settings.max_upload_bytes)),
    )


def with_middleware(settings: Settings, app: FastAPI) -> ASGIApp:
    """Wrap the application in its middleware."""
    is_open = app.state.container.access.authenticator.is_open
    origins = [*settings.cors_origins, *settings.own_origins]
    direct = DirectRoutes(
        app,
        routes=[*task_routes.router.routes, *callback_routes.router.routes],
        endpoints=[task_routes.submit_task, task_routes.get_task, callback_routes.receive_callback],
    )
    host_guard = HostGuard(is_open=is_open, allowed_hosts=settings.allowed_hosts, own_hosts=settings.own_hosts)
    origin_guard = OriginGuard(is_open=is_open, origins=origins)
    guarded = surround(settings, Guarded(direct, [host_guard.check, origin_guard.check, check_small_body]))
    return WithoutPrefix(guarded, settings.path_prefix) if settings.path_prefix else guarded


def for_spare_connections(settings: Settings, complete: ASGIApp) -> ASGIApp:
    """Return the application for connections over the limit."""
    spare = SpareConnections(complete, surround(settings, respond_overloaded))
    return WithoutPrefix(spare, settings.path_prefix) if settings.path_prefix else spare


def _summary(settings: Settings, upstream_url: str) -> dict[str, str]:
    """Describe the configuration for the log."""
    # The sandbox calls back over loopback.
    has_callbacks = settings.is_sandbox or settings.public_base_url is not None
    return {
        "address": settings.local_url,
        "docs": f"{settings.local_url}/docs",
        "mode": "sandbox" if settings.is_sandbox else "live",
        "upstream": upstream_url,
        "results": "callbacks" if has_callbacks else "polled (no PUBLIC_BASE_URL)",
        "database": "postgresql" if settings.is_postgresql else "sqlite",
        "storage": str(settings.storage_url or settings.data_dir / "images") if settings.keep_images else "off",
    }


def _warm_up(app: FastAPI) -> None:
    """Make FastAPI build all routers before requests need them."""
    for route in app.routes:
        route.matches({"type": "http", "method": "GET", "path": "/", "root_path": "", "headers": []})


def surround(settings: Settings, app: ASGIApp) -> ASGIApp:
    """Add request IDs, logging, security headers and CORS."""
    on_error: ASGIApp = respond_internal_error
    if settings.cors_origins:
        app, on_error = Cors(app, settings.cors_origins), Cors(on_error, settings.cors_origins)
    is_https = (settings.public_base_url or "").startswith("https://")
    return RequestContext(
        app,
        response_headers=ResponseHeaders(is_https=is_https),
        on_error=on_error,
        trusted_proxies=settings.trusted_proxies,
    )
