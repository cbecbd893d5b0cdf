"""The sandbox's ASGI application; control endpoints are under `/sandbox`."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from app.sandbox.behavior import Behavior, BehaviorError
from app.sandbox.engine import Engine
from app.sandbox.plans import OK
from app.sandbox.replies import AsciiJson, Envelope
from app.sandbox.store import Submit, Task
from app.sandbox.vendor_routes import VendorRoutes

_WELCOME = {
    "service": "NanoBanana sandbox: a simulated upstream",
    "control": ["/sandbox/behaviour", "/sandbox/submits", "/sandbox/tasks", "/sandbox/state"],
    "directives": "[sandbox: delay=0.2, fail=501] inside a prompt",
}


def create_sandbox(engine: Engine) -> Starlette:
    """Build the application, to be served over `CuttableConnection`."""
    vendor = VendorRoutes(engine)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        engine.start()
        try:
            yield
        finally:
            await engine.close()
            vendor.close()

    async def get_behavior(_: Request) -> Response:
        return AsciiJson(engine.behavior.model_dump(mode="json"))

    async def set_behavior(request: Request) -> Response:
        try:
            engine.behave(Behavior.from_json(await request.body()))
        except BehaviorError as error:
            return AsciiJson({"detail": str(error), "errors": error.problems}, 422)
        return await get_behavior(request)

    async def list_submits(_: Request) -> Response:
        return AsciiJson([_submit_view(submit) for submit in engine.store.submits.values()])

    async def list_tasks(_: Request) -> Response:
        return AsciiJson([_task_view(task) for task in engine.store.tasks.values()])

    async def clear(_: Request) -> Response:
        await engine.clear()
        return Response(status_code=204)

    routes = [
        Route("/", _welcome, methods=["GET"]),
        Route("/sandbox/behaviour", get_behavior, methods=["GET"]),
        Route("/sandbox/behaviour", set_behavior, methods=["PUT"]),
        Route("/sandbox/submits", list_submits, methods=["GET"]),
        Route("/sandbox/tasks", list_tasks, methods=["GET"]),
        Route("/sandbox/state", clear, methods=["DELETE"]),
        *vendor.routes(),
    ]
    handlers = dict.fromkeys((HTTPException, ClientDisconnect), _vendor_error)
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)


async def _welcome(_: Request) -> Response:
    return AsciiJson(_WELCOME)


async def _vendor_error(_: Request, error: Exception) -> Response:
    """Return an unknown path or method as a vendor error."""
    # After a disconnect, any response will do.
    return Envelope(error.status_code, error.detail) if isinstance(error, HTTPException) else Envelope(400)


def _submit_view(submit: Submit) -> dict[str, Any]:
    try:
        body = json.loads(submit.body)
    except (ValueError, RecursionError):
        body = submit.body
    return {**asdict(submit), "body": body}


def _task_view(task: Task) -> dict[str, Any]:
    code = None if task.finished_at is None else task.plan.code
    return {
        "task_id": task.id,
        "model": task.order.model,
        "prompt": task.order.prompt,
        "callback_url": task.order.callback_url,
        "state": {None: "generating", OK: "succeeded"}.get(code, "failed"),
        "code": code,
        "created_at": task.created_at,
        "finished_at": task.finished_at,
        "settled": task.is_settled,
        "callbacks": task.callbacks,
    }
