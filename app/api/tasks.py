"""Routes of tasks: submit, look, list, cancel, retry, delete."""

import re
import time
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import Response

from app.api.answer import JsonAnswer
from app.api.body import read_model
from app.api.cursor import decode_cursor, encode_cursor
from app.api.dependencies import (
    TASK_ID,
    CurrentCaller,
    Services,
    TaskId,
    ask_again,
    bearer,
    factory_of,
    get_caller,
    known_form,
    problems,
    room_of,
)
from app.api.document import header_refs
from app.api.headers import header
from app.api.task_request import TaskRequest
from app.api.task_schema import task_request_schema
from app.api.task_view import CallbackList, TaskPage, TaskView, callback_view
from app.api.waiting import PREFER_PARAMETER, WAIT_PARAMETER, applied, departure, preferred_wait, requested_wait
from app.clock import from_datetime
from app.domain.models import Model, TaskType
from app.domain.task import Status, TaskFilter
from app.domain.task_state import TaskState, task_view
from app.errors import InvalidRequest
from app.services.tasks import Caller, Submission

# 20,000 characters of prompt are up to 120,000 bytes of escaped JSON. Images in the body itself come on top.
_MAX_BODY_BYTES = 1024 * 1024
_MAX_IDEMPOTENCY_KEY = 255
_DEFAULT_LIMIT = 50
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}|$")

router = APIRouter(
    prefix="/v1/tasks", tags=["tasks"], dependencies=[Depends(bearer)], responses=problems(401, 403, 422, 503)
)

_IDEMPOTENCY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "schema": {"type": "string", "minLength": 1, "maxLength": _MAX_IDEMPOTENCY_KEY},
    "description": "Makes a repeated request return the first one's task; kept for 24 hours.",
}

_ACCEPTED = header_refs("Location", "Idempotent-Replayed", "Preference-Applied")
_ENDED: dict[str, Any] = {
    "model": TaskView,
    "description": "The client preferred to wait, and the task has ended.",
    "headers": _ACCEPTED,
}


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


def _written_out(value: object) -> object:
    """Refuse a bare number, which would be taken for seconds since 1970."""
    if isinstance(value, str) and not _MOMENT.match(value):
        raise ValueError("must be a date, or date and time, such as 2026-11-22T09:17:00Z")
    return value


_Empty = BeforeValidator(_none_if_empty)
# The validators of a field are run from the last to the first.
_Moment = BeforeValidator(_written_out)


class _ListQuery(BaseModel):
    """The query of a list. An empty value is as good as none."""

    model_config = ConfigDict(extra="forbid")

    status: Annotated[
        Literal["queued", "submitting", "processing", "succeeded", "failed", "canceled"] | None, _Empty
    ] = None
    model: Annotated[Literal["nano-banana", "nano-banana-pro", "nano-banana-2"] | None, _Empty] = None
    type: Annotated[Literal["text_to_image", "image_to_image"] | None, _Empty] = None
    created_after: Annotated[datetime | None, _Empty, _Moment] = Field(None, description="At or after this moment.")
    created_before: Annotated[datetime | None, _Empty, _Moment] = Field(None, description="Before this moment.")
    limit: Annotated[
        int, Field(ge=1, le=200), BeforeValidator(lambda value: _DEFAULT_LIMIT if value == "" else value)
    ] = _DEFAULT_LIMIT
    cursor: Annotated[str | None, _Empty] = Field(
        None, description="`next_cursor` of the page before.", json_schema_extra={"format": "task-cursor"}
    )

    def filter(self) -> TaskFilter:
        return TaskFilter(
            status=Status(self.status) if self.status else None,
            model=Model(self.model) if self.model else None,
            type=TaskType(self.type) if self.type else None,
            created_after=from_datetime(self.created_after) if self.created_after else None,
            created_before=from_datetime(self.created_before) if self.created_before else None,
        )


@router.post(
    "",
    status_code=202,
    response_model=TaskView,
    responses={200: _ENDED, 202: {"headers": _ACCEPTED}, **problems(400, 409, 410, 413, 415, 422, 429)},
    openapi_extra={
        "parameters": [_IDEMPOTENCY_PARAMETER, PREFER_PARAMETER],
        "requestBody": {"required": True, "content": {"application/json": {"schema": task_request_schema()}}},
    },
)
async def submit(request: Request) -> Response:
    """Accept a task. Once this answers 202 the task is durable and ends in a verdict, whatever happens."""
    caller, asked_at = await get_caller(request), time.monotonic()
    idempotency_key = _idempotency_key(request)
    services = factory_of(request)
    with room_of(request) as room:
        body = await read_model(request, TaskRequest, _MAX_BODY_BYTES, room)
        if body.webhook_url is not None:
            services.deliveries.check_url(caller, body.webhook_url)
        submission = body.submission()
        if body.has_data_uris:
            submission = await _with_uploads(services, caller, submission)
    caller = await ask_again(request, caller, asked_at)
    state, is_replay = await services.tasks.submit(caller, submission, idempotency_key)
    return await _accepted(request, caller, services, state, is_replay=is_replay)


@router.get("", response_model=TaskPage, responses=problems(422))
async def list_tasks(query: Annotated[_ListQuery, Query()], caller: CurrentCaller, services: Services) -> Response:
    """List tasks, newest first."""
    before_id = decode_cursor(query.cursor, TASK_ID)
    states, next_id = await services.tasks.page(caller, query.filter(), before_id=before_id, limit=query.limit)
    return JsonAnswer(
        {"data": [task_view(state, services.base_url) for state in states], "next_cursor": encode_cursor(next_id)}
    )


@router.get(
    "/{task_id}",
    response_model=TaskView,
    responses={200: {"headers": header_refs("Preference-Applied")}, **problems(404)},
    openapi_extra={"parameters": [WAIT_PARAMETER, PREFER_PARAMETER]},
)
async def get_task(request: Request, task_id: str) -> Response:
    """Look at a task, if you like when it has ended."""
    caller = await get_caller(request)
    services = factory_of(request)
    seconds = requested_wait(request)
    if seconds is None or not services.waiting.has_room:
        return JsonAnswer(task_view(await services.tasks.get(caller, known_form(task_id)), services.base_url))
    async with departure(request.receive) as leaving:
        state = await services.waiting.until_ended(caller, known_form(task_id), seconds, leaving)
    return JsonAnswer(task_view(state, services.base_url), headers=applied(seconds))


@router.post("/{task_id}/cancel", response_model=TaskView, responses=problems(404, 409))
async def cancel(task_id: TaskId, caller: CurrentCaller, services: Services) -> Response:
    """Cancel a task that is still queued."""
    return JsonAnswer(task_view(await services.tasks.cancel(caller, task_id), services.base_url))


@router.post(
    "/{task_id}/retry",
    status_code=202,
    response_model=TaskView,
    responses={200: _ENDED, 202: {"headers": _ACCEPTED}, **problems(404, 409, 410, 422, 429)},
    openapi_extra={"parameters": [_IDEMPOTENCY_PARAMETER, PREFER_PARAMETER]},
)
async def retry(request: Request, task_id: TaskId, caller: CurrentCaller, services: Services) -> Response:
    """Submit a failed or canceled task's input again, as a new task."""
    state, is_replay = await services.tasks.retry(caller, task_id, _idempotency_key(request))
    return await _accepted(request, caller, services, state, is_replay=is_replay)


@router.delete("/{task_id}", status_code=204, response_class=Response, responses=problems(404, 409))
async def delete(task_id: TaskId, caller: CurrentCaller, services: Services) -> Response:
    """Delete a task that has ended, with all that hangs on it, its images included."""
    await services.tasks.delete(caller, task_id)
    services.collect_wake_up.wake()
    return Response(status_code=204)


@router.get("/{task_id}/callbacks", response_model=CallbackList, responses=problems(404))
async def list_callbacks(task_id: TaskId, caller: CurrentCaller, services: Services) -> Response:
    """Show what arrived at the task's callback address, newest first."""
    kept = await services.tasks.callbacks(caller, task_id)
    return JsonAnswer({"data": [callback_view(callback) for callback in kept]})


async def _with_uploads(services: Services, caller: Caller, submission: Submission) -> Submission:
    """Replace the pictures that came with a request by addresses of uploads."""
    with services.uploads.place(caller):
        images = await services.uploads.take_in(caller, submission.input["image_urls"])
    return replace(submission, input={**submission.input, "image_urls": images.urls}, identity=images.identity)


async def _accepted(
    request: Request, caller: CurrentCaller, services: Services, state: TaskState, *, is_replay: bool
) -> Response:
    """Answer with a task that was accepted: at once, or as the client prefers when it has ended."""
    headers: dict[str, Any] = {"Location": f"/v1/tasks/{state.task.id}"}
    if is_replay:
        headers["Idempotent-Replayed"] = "true"
    seconds = preferred_wait(request)
    if seconds is None or not services.waiting.has_room:
        return JsonAnswer(task_view(state, services.base_url), status_code=202, headers=headers)
    async with departure(request.receive) as leaving:
        state = await services.waiting.after_submit(caller, state, seconds, leaving)
    headers |= applied(seconds)
    return JsonAnswer(
        task_view(state, services.base_url), status_code=200 if state.task.is_terminal else 202, headers=headers
    )


def _idempotency_key(request: Request) -> str | None:
    key = header(request.scope, b"idempotency-key")
    if key is None or 0 < len(key) <= _MAX_IDEMPOTENCY_KEY:
        return key
    message = f"must have 1 to {_MAX_IDEMPOTENCY_KEY} characters"
    raise InvalidRequest("Some parameters are wrong.", [{"field": "Idempotency-Key", "message": message}])
