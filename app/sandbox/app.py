"""The sandbox as an ASGI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from app.sandbox.answers import AsciiJson, refusal
from app.sandbox.behavior import Behavior
from app.sandbox.control_routes import ControlRoutes
from app.sandbox.engine import Engine
from app.sandbox.gallery import Gallery
from app.sandbox.store import Store
from app.sandbox.vendor_routes import VendorRoutes

_WELCOME = {
    "service": "NanoBanana sandbox: an imitation of the upstream",
    "control": ["/sandbox/behaviour", "/sandbox/submits", "/sandbox/tasks", "/sandbox/state"],
    "directives": "[sandbox: delay=0.2, fail=501] inside a prompt",
}


def create_sandbox(*, public_url: str, store: Store | None = None, behavior: Behavior | None = None) -> Starlette:
    """Build the application; pictures are linked below `public_url`.

    Cutting connections takes `CuttableConnection` as the server's protocol. The engine is `app.state.engine`.
    """
    engine = Engine(store or Store(), behavior or Behavior(), public_url.rstrip("/"))
    gallery = Gallery()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        engine.start()
        try:
            yield
        finally:
            await engine.close()
            gallery.close()

    routes = [
        Route("/", _welcome, methods=["GET"]),
        *VendorRoutes(engine, gallery).routes(),
        *ControlRoutes(engine).routes(),
    ]
    handlers = {HTTPException: _vendor_error, ClientDisconnect: _gone}
    application = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
    application.state.engine = engine
    return application


async def _welcome(request: Request) -> Response:
    return AsciiJson(_WELCOME)


async def _vendor_error(request: Request, error: Exception) -> Response:
    """No such page, or another method: in the envelope, like everything else."""
    code = error.status_code if isinstance(error, HTTPException) else 500
    words = error.detail if isinstance(error, HTTPException) else None
    return refusal(code, words)


async def _gone(request: Request, error: Exception) -> Response:
    """Answer a client that left in the middle of its request: nobody reads this."""
    return Response(status_code=400)
