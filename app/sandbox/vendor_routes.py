"""The vendor's endpoints: submits, record-info, credit, pictures."""

import re
import time

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.domain.models import Model
from app.sandbox import answers, directives, reports
from app.sandbox.answers import Envelope, HangUp, refusal
from app.sandbox.behavior import BehaviorError
from app.sandbox.engine import Engine
from app.sandbox.gallery import Gallery
from app.sandbox.orders import Order, OrderError, read_order
from app.sandbox.pictures import MEDIA_TYPES, Picture
from app.sandbox.plans import SubmitPlan, record_fault
from app.sandbox.tasks import Task
from app.upstream.wire import CREDIT_PATH, RECORD_INFO_PATH, SUBMIT_PATHS

MAX_BODY_BYTES = 256 * 1024
_MESSAGE_KEYS = {Model.NANO_BANANA_PRO: "message"}
_RECORD_CODES = {"not_found": 404, "record_error": 500}
_PICTURE_NAME = re.compile(r"([0-9a-f]{32})-([1-4])\.(png|jpg)")


class VendorRoutes:
    """Handlers of the imitated endpoints."""

    def __init__(self, engine: Engine, gallery: Gallery) -> None:
        self._engine = engine
        self._store = engine.store
        self._gallery = gallery

    def routes(self) -> list[Route]:
        """List everything that the vendor's clients call."""
        return [
            *(Route(path, self._submit, methods=["POST"], name=model.value) for model, path in SUBMIT_PATHS.items()),
            Route(RECORD_INFO_PATH, self._record_info, methods=["GET"]),
            Route(CREDIT_PATH, self._credit, methods=["GET"]),
            Route("/images/{name}", self._image, methods=["GET"]),
        ]

    async def _submit(self, request: Request) -> Response:
        model = next(model for model, path in SUBMIT_PATHS.items() if path == request.url.path)
        at, key = time.time(), _MESSAGE_KEYS.get(model, "msg")
        raw = await _body(request)
        headers = {name: value for name, value in request.headers.items() if name != "authorization"}
        seq = self._store.add_submit(at, request.url.path, headers, raw.decode("utf-8", "replace"))
        fault: str | None = None
        if not self._is_known(request):
            answer: Response = self._refusal(401, key=key)
        else:
            try:
                order, told = _read(model, raw)
                plan, task = self._engine.admit(seq, order, told)
            except (OrderError, directives.DirectiveError, BehaviorError) as error:
                answer = self._refusal(400, str(error), key=key)
            else:
                fault = plan.fault
                if task is not None and plan.early:
                    await self._engine.settle(task)
                if fault == "slow_reply":
                    await self._engine.doze(plan.slow_seconds)
                answer = _answer(plan, task, key)
        status = None if isinstance(answer, HangUp) else answer.status_code
        self._store.answer_submit(seq, fault=fault, status=status, code=getattr(answer, "code", None))
        return answer

    async def _record_info(self, request: Request) -> Response:
        if not self._is_known(request):
            return self._refusal(401)
        task_id = request.query_params.get("taskId", "")
        if not task_id:
            return self._refusal(400, "taskId is required.")
        task = self._store.task(task_id)
        if task is None:
            return self._refusal(404)
        fault = self._record_fault(task)
        if fault == "record_hang_up":
            return HangUp()
        if fault is not None:
            inside = self._engine.dice.random() < task.plan.in_http_200
            return refusal(_RECORD_CODES[fault], in_http_200=inside)
        return Envelope(answers.OK, "success", reports.record(task, self._engine.public_url))

    def _record_fault(self, task: Task) -> str | None:
        if time.time() < task.created_at + task.plan.not_found_seconds:
            return "not_found"
        return record_fault(task.plan, self._store.question(task.id)) if task.plan.record_faults else None

    async def _credit(self, request: Request) -> Response:
        if not self._is_known(request):
            return self._refusal(401)
        return Envelope(answers.OK, "success", self._engine.behavior.credits)

    async def _image(self, request: Request) -> Response:
        # The vendor's image host turns Python's default user agents away.
        if request.headers.get("user-agent", "").lower().startswith("python"):
            return PlainTextResponse("Forbidden", 403)
        name = request.path_params["name"]
        match = _PICTURE_NAME.fullmatch(name)
        task = self._store.task(match[1]) if match else None
        if match is None or task is None or task.finished_at is None or name not in reports.picture_names(task):
            return PlainTextResponse("Not Found", 404)
        picture = Picture.of(task.order, int(match[2]))
        drawing = self._gallery.draw(picture)
        await self._engine.unless_closing(drawing)
        if not drawing.done():
            return PlainTextResponse("Closing", 503)
        return Response(drawing.result(), media_type=MEDIA_TYPES[picture.format])

    def _is_known(self, request: Request) -> bool:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        accepted = self._engine.behavior.accepted_keys
        return scheme.lower() == "bearer" and bool(key.strip()) and (accepted is None or key.strip() in accepted)

    def _refusal(self, code: int, words: str | None = None, *, key: str = "msg") -> Envelope:
        inside = self._engine.dice.random() < self._engine.behavior.in_http_200
        return refusal(code, words, key=key, in_http_200=inside)


def _read(model: Model, raw: bytes) -> tuple[Order, directives.Directives]:
    if len(raw) > MAX_BODY_BYTES:
        raise OrderError(f"The request body exceeds {MAX_BODY_BYTES} bytes.")
    order = read_order(model, raw)
    return order, directives.parse(order.prompt)


def _answer(plan: SubmitPlan, task: Task | None, key: str) -> Response:
    fault = plan.fault or ""
    if fault.startswith("hang_up"):
        return HangUp()
    if fault.startswith("proxy"):
        return answers.proxy_page(int(fault[-3:]))
    if fault.startswith("refuse") or task is None:
        code = int(fault[-3:])
        answer = refusal(code, key=key, in_http_200=plan.in_http_200)
        if code == 429 and plan.retry_after_seconds is not None:  # noqa: PLR2004 -- HTTP
            answer.headers["Retry-After"] = str(plan.retry_after_seconds)
        return answer
    success = Envelope(answers.OK, "success", {"taskId": task.id}, key=key)
    return answers.torn(success) if fault == "garbage_200" else success


async def _body(request: Request) -> bytes:
    """Read the request's body, cut shortly after the limit."""
    raw = b""
    async for chunk in request.stream():
        if len(raw) <= MAX_BODY_BYTES:
            raw += chunk[: MAX_BODY_BYTES + 1 - len(raw)]
    return raw
