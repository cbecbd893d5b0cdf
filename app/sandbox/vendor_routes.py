"""The simulated vendor endpoints."""

import asyncio
import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.domain.models import Model
from app.sandbox import directives, reports
from app.sandbox.behavior import BehaviorError
from app.sandbox.drawing import MEDIA_TYPES, draw, drawing_of
from app.sandbox.engine import Engine
from app.sandbox.orders import OrderError, read_order
from app.sandbox.plans import OK, SubmitPlan, draw_record_fault
from app.sandbox.replies import Envelope, HangUp, proxy_page, torn
from app.sandbox.store import Submit, Task
from app.upstream.wire import CREDIT_PATH, RECORD_INFO_PATH, SUBMIT_PATHS

_MAX_BODY_BYTES = 256 * 1024
_CACHED_IMAGES = 32
_TOO_MANY = 429
_IMAGE_NAME = re.compile(r"([0-9a-f]{32})-([1-4])\.(png|jpg)")


class VendorRoutes:
    """Handlers of the simulated endpoints."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._store = engine.store
        # A thread keeps the event loop free; a single one never draws the same image twice at once.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="sandbox-images")
        self._draw = lru_cache(maxsize=_CACHED_IMAGES)(draw)

    def routes(self) -> list[Route]:
        """List the routes."""
        return [
            *(Route(path, self._submit, methods=["POST"]) for path in SUBMIT_PATHS.values()),
            Route(RECORD_INFO_PATH, self._record_info, methods=["GET"]),
            Route(CREDIT_PATH, self._credit, methods=["GET"]),
            Route("/images/{name}", self._image, methods=["GET"]),
        ]

    def close(self) -> None:
        """Stop drawing, without waiting for an image in progress."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _submit(self, request: Request) -> Response:
        path, at = request.url.path, time.time()
        model = next(model for model in Model if SUBMIT_PATHS[model] == path)
        raw = await _read_body(request)
        headers = {name: value for name, value in request.headers.items() if name != "authorization"}
        submit = Submit(uuid.uuid4().hex, at, path, headers, raw.decode("utf-8", "replace"))
        self._store.add(submit)
        reply = await self._answer(request, model, raw, submit)
        submit.status = None if isinstance(reply, HangUp) else reply.status_code
        submit.code = getattr(reply, "code", None)
        self._store.save(submit)
        return reply

    async def _answer(self, request: Request, model: Model, raw: bytes, submit: Submit) -> Response:
        key = "message" if model is Model.NANO_BANANA_PRO else "msg"
        if not self._is_authorized(request):
            return self._error(401, key=key)
        if len(raw) > _MAX_BODY_BYTES:
            return self._error(400, f"The request body exceeds {_MAX_BODY_BYTES} bytes.", key=key)
        try:
            order = read_order(model, raw)
            plan = self._engine.admit(submit, order, directives.parse(order.prompt))
        except (OrderError, directives.DirectiveError, BehaviorError) as error:
            return self._error(400, str(error), key=key)
        if submit.task_id is not None and plan.is_early:
            await self._engine.wait_settled(submit.task_id)
        if plan.fault == "slow_reply":
            await self._engine.wait(asyncio.sleep(plan.behavior.slow_seconds))
        return _planned_reply(plan, submit.task_id, key)

    async def _record_info(self, request: Request) -> Response:
        if not self._is_authorized(request):
            return self._error(401)
        task_id = request.query_params.get("taskId", "")
        if not task_id:
            return self._error(400, "taskId is required.")
        task = self._store.tasks.get(task_id)
        if task is None:
            return self._error(404)
        if time.time() < task.created_at + task.plan.not_found_seconds:
            return self._error(404, in_http_200=task.plan.in_http_200)
        fault = self._record_fault(task)
        if fault == "record_hang_up":
            return HangUp()
        if fault == "record_error":
            return self._error(500, in_http_200=task.plan.in_http_200)
        code = None if task.finished_at is None else task.plan.code
        return Envelope(OK, "success", reports.record(task, self._engine.public_url, code))

    def _record_fault(self, task: Task) -> str | None:
        if not any(task.plan.record_faults.values()):
            return None
        task.polls += 1
        self._store.save(task)
        return draw_record_fault(task.plan, task.polls - 1)

    async def _credit(self, request: Request) -> Response:
        if not self._is_authorized(request):
            return self._error(401)
        return Envelope(OK, "success", self._engine.behavior.credits)

    async def _image(self, request: Request) -> Response:
        # The vendor's image host rejects Python's default user agents.
        if request.headers.get("user-agent", "").lower().startswith("python"):
            return PlainTextResponse("Forbidden", 403)
        name = request.path_params["name"]
        match = _IMAGE_NAME.fullmatch(name)
        task = self._store.tasks.get(match[1]) if match else None
        if match is None or task is None or task.finished_at is None or name not in reports.image_names(task):
            return PlainTextResponse("Not Found", 404)
        drawing = drawing_of(task.order, int(match[2]))
        image = asyncio.get_running_loop().run_in_executor(self._thread, self._draw, drawing)
        await self._engine.wait(image)
        if image.cancelled():
            return PlainTextResponse("Closing", 503)
        return Response(image.result(), media_type=MEDIA_TYPES[drawing.format])

    def _is_authorized(self, request: Request) -> bool:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        accepted = self._engine.behavior.accepted_keys
        return scheme.lower() == "bearer" and bool(key.strip()) and (accepted is None or key.strip() in accepted)

    def _error(
        self, code: int, message: str | None = None, *, key: str = "msg", in_http_200: float | None = None
    ) -> Envelope:
        """Return an error; `in_http_200` overrides the behavior's probability."""
        chance = self._engine.behavior.in_http_200 if in_http_200 is None else in_http_200
        return Envelope(code, message, key=key, in_http_200=self._engine.dice.random() < chance)


def _planned_reply(plan: SubmitPlan, task_id: str | None, key: str) -> Response:
    fault = plan.fault or ""
    if fault.startswith("hang_up"):
        return HangUp()
    if fault.startswith("proxy"):
        return proxy_page(int(fault[-3:]))
    if fault.startswith("refuse"):
        code, retry_after = int(fault[-3:]), plan.behavior.retry_after_seconds
        reply = Envelope(code, key=key, in_http_200=plan.in_http_200)
        if code == _TOO_MANY and retry_after is not None:
            reply.headers["Retry-After"] = str(retry_after)
        return reply
    reply = Envelope(OK, "success", {"taskId": task_id}, key=key)
    return torn(reply) if fault == "garbage_200" else reply


async def _read_body(request: Request) -> bytes:
    """Read the body, up to one byte over the limit."""
    raw = b""
    async for chunk in request.stream():
        raw += chunk[: _MAX_BODY_BYTES + 1 - len(raw)]
    return raw
