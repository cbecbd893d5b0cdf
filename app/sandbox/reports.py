"""What the vendor reports about a task: record-info and the bodies of callbacks, in its own shapes and words."""

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from app.domain.models import Model
from app.sandbox.plans import OK
from app.sandbox.tasks import Task
from app.upstream.wire import FLAG_CREATE_FAILED, FLAG_GENERATE_FAILED, FLAG_GENERATING, FLAG_SUCCESS

_VENDOR_ZONE = timezone(timedelta(hours=8))
_FAILURES = {
    400: "Your content was flagged as violating content policies.",
    500: "Internal Error, Please try again later.",
    501: "Image generation task failed.",
}
_FLAGS = {OK: FLAG_SUCCESS, 500: FLAG_CREATE_FAILED}
_CONTRADICTING_FAILURE = 501
# The one of `generate` has been observed, the others follow it.
_OPERATIONS = {
    Model.NANO_BANANA: "nanobanana",
    Model.NANO_BANANA_PRO: "nanobanana-pro",
    Model.NANO_BANANA_2: "nanobanana-2",
}


def vendor_time(at: float) -> str:
    """Write unix seconds as the vendor does: UTC+8, no zone."""
    return datetime.fromtimestamp(at, UTC).astimezone(_VENDOR_ZONE).strftime("%Y-%m-%d %H:%M:%S")


def picture_names(task: Task) -> list[str]:
    """Return the file names of a task's pictures, in order."""
    return [f"{task.id}-{n}.{task.order.output_format}" for n in range(1, task.order.num_images + 1)]


def record(task: Task, base_url: str) -> dict[str, Any]:
    """Return the `data` of record-info about a task as it is now; pictures live under `base_url`."""
    return _record(task, base_url, task.plan.verdict if task.finished_at is not None else None)


def notice(kind: str, task: Task, base_url: str) -> bytes:
    """Write the body of a callback about a finished task.

    `kind` is `verdict`, `garbage`, `wrong_task`, `generating` or `contradiction`.
    """
    verdict = task.plan.verdict
    if kind == "generating":
        body = _envelope(OK, "success", _record(task, base_url, None))
    elif kind == "wrong_task":
        other = hashlib.sha256(task.id.encode()).hexdigest()[: len(task.id)]
        body = _verdict(task, base_url, verdict, other)
    elif kind == "contradiction":
        body = _verdict(task, base_url, _CONTRADICTING_FAILURE if verdict == OK else OK, task.id)
    else:
        body = _verdict(task, base_url, verdict, task.id)
    raw = json.dumps(body).encode()
    # Garbage is the true verdict torn in the middle.
    return raw[: len(raw) // 2] if kind == "garbage" else raw


def _verdict(task: Task, base_url: str, verdict: int, task_id: str) -> dict[str, Any]:
    if task.order.model == Model.NANO_BANANA_2:
        return _envelope(OK, "success", {**_record(task, base_url, verdict), "taskId": task_id})
    results = _results(task, base_url) if verdict == OK else {"resultImageUrl": ""}
    words = "Image generated successfully." if verdict == OK else _FAILURES[verdict]
    return _envelope(verdict, words, {"taskId": task_id, "info": results})


def _envelope(code: int, msg: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"code": code, "msg": msg, "data": data}


def _record(task: Task, base_url: str, verdict: int | None) -> dict[str, Any]:
    failed = verdict is not None and verdict != OK
    finished_at = task.finished_at if verdict is not None else None
    flag = FLAG_GENERATING if verdict is None else _FLAGS.get(verdict, FLAG_GENERATE_FAILED)
    params = json.dumps(task.order.params, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return {
        "taskId": task.id,
        "paramJson": params,
        "createTime": vendor_time(task.created_at),
        "completeTime": None if finished_at is None else vendor_time(finished_at),
        "response": {"originImageUrl": None, **_results(task, base_url)} if verdict == OK else None,
        "successFlag": flag,
        "errorCode": verdict if failed else None,
        "errorMessage": _FAILURES[verdict] if verdict is not None and failed else None,
        "operationType": f"{_OPERATIONS[Model(task.order.model)]}_{task.order.type}",
    }


def _results(task: Task, base_url: str) -> dict[str, Any]:
    urls = [f"{base_url}/images/{name}" for name in picture_names(task)]
    # Nobody outside knows the vendor's shape for several pictures; one has always been a plain string.
    return {"resultImageUrl": urls[0]} | ({"resultImageUrls": urls} if len(urls) > 1 else {})
