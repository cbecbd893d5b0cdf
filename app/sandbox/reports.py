"""Builds record-info and callback bodies in the vendor's format."""

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from app.domain.models import Model
from app.sandbox.plans import GENERATION_FAILED, OK
from app.sandbox.store import Task
from app.upstream.wire import FLAG_CREATE_FAILED, FLAG_GENERATE_FAILED, FLAG_GENERATING, FLAG_SUCCESS

_VENDOR_ZONE = timezone(timedelta(hours=8))
_FAILURES = {
    400: "Your content was flagged as violating content policies.",
    500: "Internal Error, Please try again later.",
    GENERATION_FAILED: "Image generation task failed.",
}
_FLAGS = {None: FLAG_GENERATING, OK: FLAG_SUCCESS, 500: FLAG_CREATE_FAILED}
# Only the name for `generate` was observed; the others are guesses.
_OPERATIONS = {
    Model.NANO_BANANA: "nanobanana",
    Model.NANO_BANANA_PRO: "nanobanana-pro",
    Model.NANO_BANANA_2: "nanobanana-2",
}


def image_names(task: Task) -> list[str]:
    """Return the file names of a task's images, in order."""
    return [f"{task.id}-{n}.{task.order.output_format}" for n in range(1, task.order.image_count + 1)]


def record(task: Task, base_url: str, code: int | None) -> dict[str, Any]:
    """Return record-info's `data`; code None means still generating."""
    return {
        "taskId": task.id,
        "paramJson": json.dumps(task.order.params, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
        "createTime": _vendor_time(task.created_at),
        "completeTime": None if code is None or task.finished_at is None else _vendor_time(task.finished_at),
        "response": {"originImageUrl": None, **_results(task, base_url)} if code == OK else None,
        "successFlag": _FLAGS.get(code, FLAG_GENERATE_FAILED),
        "errorCode": code if code in _FAILURES else None,
        "errorMessage": _message(task, code),
        "operationType": f"{_OPERATIONS[task.order.model]}_{task.order.type}",
    }


def callback_body(kind: str, task: Task, base_url: str) -> bytes:
    """Return the body of a finished task's callback."""
    code, task_id = task.plan.code, task.id
    if kind.startswith("generating"):
        body = _envelope(OK, "success", record(task, base_url, None))
    else:
        if kind == "wrong_task":
            task_id = hashlib.sha256(task.id.encode()).hexdigest()[: len(task.id)]
        elif kind == "contradiction":
            code = GENERATION_FAILED if code == OK else OK
        body = _result(task, base_url, code, task_id)
    raw = json.dumps(body).encode()
    # Garbage is the real result, cut in half.
    return raw[: len(raw) // 2] if kind == "garbage" else raw


def _result(task: Task, base_url: str, code: int, task_id: str) -> dict[str, Any]:
    if task.order.model is Model.NANO_BANANA_2:
        return _envelope(OK, "success", {**record(task, base_url, code), "taskId": task_id})
    info = _results(task, base_url) if code == OK else {"resultImageUrl": ""}
    message = _message(task, code) or "Image generated successfully."
    return _envelope(code, message, {"taskId": task_id, "info": info})


def _message(task: Task, code: int | None) -> str | None:
    return task.problem or _FAILURES[code] if code in _FAILURES else None


def _envelope(code: int, msg: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"code": code, "msg": msg, "data": data}


def _results(task: Task, base_url: str) -> dict[str, Any]:
    urls = [f"{base_url}/images/{name}" for name in image_names(task)]
    # The vendor doesn't document the format for several images. A single one has always been a plain string.
    return {"resultImageUrl": urls[0]} | ({"resultImageUrls": urls} if len(urls) > 1 else {})


def _vendor_time(at: float) -> str:
    """Format unix seconds as the vendor does: UTC+8, no zone."""
    return datetime.fromtimestamp(at, UTC).astimezone(_VENDOR_ZONE).strftime("%Y-%m-%d %H:%M:%S")
