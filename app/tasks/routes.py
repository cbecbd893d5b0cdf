"""Routes of tasks: submit, get, list, cancel, retry, delete."""

import re
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import Response

from app.clock import from_datetime
from app.domain.caller import Caller
from app.domain.models import Model, TaskType
from app.domain.submission import Submission
from app.domain.task import Status, TaskFilter, TaskState
from app.images.inputs import InputCheck
from app.images.uploads import UploadService
from app.settings import Settings
from app.shapes.task import CallbackList, Task, TaskPage, callback_shape, task_shape
from app.tasks.request_schema import EXAMPLES, task_request_schema
from app.tasks.requests import TaskRequest
from app.tasks.service import TaskService
from app.tasks.waiting import TaskWaiter
from app.web.dependencies import (
    TASK_ID,
    CurrentCaller,
    CurrentSettings,
    TaskId,
    TaskIdInPath,
    bearer,
    get_caller,
    memory_permit,
    valid_task_id,
)
from app.web.json_body import read_model
from app.web.openapi import headers, json_body, problems
from app.web.pagination import CURSOR, DEFAULT_LIMIT, EmptyIsUnset, Limit, decode_cursor, encode_cursor
from app.web.parameters import Parameter, documented
from app.web.response import ShapeResponse
from app.web.services import provide, service
from app.web.waiting import PREFER, WAIT, applied, preferred_wait, requested_wait, watch_disconnect
from app.webhooks.deliveries import DeliveryService

Tasks = Annotated[TaskService, provide(TaskService)]
# 20,000 characters of prompt are up to 120,000 bytes of escaped JSON. Images in the body have a separate limit.
_MAX_BODY_BYTES = 1024 * 1024
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}|$")

router = APIRouter(
    prefix="/v1/tasks", tags=["tasks"], dependencies=[Depends(bearer)], responses=problems(401, 403, 422, 503)
)

_IDEMPOTENCY_KEY: Parameter[str] = Parameter(
    "Idempotency-Key",
    "header",
    Annotated[str, Field(min_length=1, max_length=255)],
    "A repeated request with the same key and body returns the first one's task. Kept for 24 hours.",
)
_ACCEPTED = headers("Location", "Idempotent-Replayed", "Preference-Applied")
_FINISHED: dict[str, Any] = {
    "model": Task,
    "description": "The request asked to wait, and the task has finished.",
    "headers": _ACCEPTED,
}


def _date_only(value: object) -> object:
    """Reject bare numbers, which Pydantic would read as Unix seconds."""
    if isinstance(value, str) and not _DATE.match(value):
        raise ValueError("must be a date, or a date and time, such as 2026-11-22T09:17:00Z")
    return value


# Pydantic runs the last validator first.
_Moment = BeforeValidator(_date_only)


class _ListQuery(BaseModel):
    """The query of the list. Empty values count as unset."""

    model_config = ConfigDict(extra="forbid")

    status: Annotated[Status | None, EmptyIsUnset] = None
    model: Annotated[Model | None, EmptyIsUnset] = None
    type: Annotated[TaskType | None, EmptyIsUnset] = None
    created_after: Annotated[datetime | None, EmptyIsUnset, _Moment] = Field(None, description="At or after this time.")
    created_before: Annotated[datetime | None, EmptyIsUnset, _Moment] = Field(None, description="Before this time.")
    limit: Limit = DEFAULT_LIMIT
    cursor: Annotated[str | None, EmptyIsUnset] = Field(
        None, description=CURSOR, json_schema_extra={"format": "task-cursor"}
    )

    def filter(self) -> TaskFilter:
        return TaskFilter(
            status=self.status,
            model=self.model,
            type=self.type,
            created_after=from_datetime(self.created_after) if self.created_after else None,
            created_before=from_datetime(self.created_before) if self.created_before else None,
        )


@router.post(
    "",
    status_code=202,
    responses={200: _FINISHED, 202: {"headers": _ACCEPTED}, **problems(400, 409, 410, 413, 415, 422, 429)},
    openapi_extra=documented(_IDEMPOTENCY_KEY, PREFER)
    | json_body(TaskRequest, schema=task_request_schema(), examples=EXAMPLES),
)
async def submit_task(request: Request) -> ShapeResponse[Task]:
    """Submit a task.

    A task accepted with 202 is durable and will reach a result. With `Prefer: wait=N` the response is sent when the
    task has finished (200), or after N seconds (202).
    """
    caller = await get_caller(request)
    idempotency_key = _IDEMPOTENCY_KEY.read(request)
    submission = await _read_submission(request, caller, idempotency_key)
    if isinstance(submission, TaskState):
        return await _accepted(request, caller, submission, is_replay=True)
    caller = await get_caller(request)  # the body may have taken minutes
    state, is_replay = await service(request, TaskService).submit(caller, submission, idempotency_key)
    return await _accepted(request, caller, state, is_replay=is_replay)


async def _read_submission(request: Request, caller: Caller, idempotency_key: str | None) -> Submission | TaskState:
    """Read the body and store its images.

    Returns the task of a repeated request with images, whose images are stored already. A separate function, so that
    the body isn't in memory while the request waits.
    """
    with memory_permit(request) as permit:
        body = await read_model(request, TaskRequest, _MAX_BODY_BYTES, permit)
        if body.webhook_url is not None:
            service(request, DeliveryService).check_url(caller, body.webhook_url)
        submission = body.submission()
        service(request, InputCheck).check(submission.input["image_urls"])
        if body.has_data_uris:
            uploads, urls = service(request, UploadService), submission.input["image_urls"]
            with uploads.permit(caller):
                submission = replace(submission, identity=await uploads.identify(urls))
                if replay := await service(request, TaskService).replay(caller, submission, idempotency_key):
                    return replay
                task_input = {**submission.input, "image_urls": await uploads.upload_data_uris(caller, urls)}
            submission = replace(submission, input=task_input)
        return submission


@router.get("", responses=problems(422))
async def list_tasks(
    query: Annotated[_ListQuery, Query()], caller: CurrentCaller, tasks: Tasks, settings: CurrentSettings
) -> ShapeResponse[TaskPage]:
    """List tasks, newest first."""
    before_id = decode_cursor(query.cursor, TASK_ID)
    states, next_id = await tasks.page(caller, query.filter(), before_id=before_id, limit=query.limit)
    page = TaskPage([task_shape(state, settings.base_url) for state in states], encode_cursor(next_id))
    return ShapeResponse(page)


@router.get(
    "/{task_id}",
    responses={200: {"headers": headers("Preference-Applied")}, **problems(404)},
    openapi_extra=documented(WAIT, PREFER),
)
async def get_task(request: Request, task_id: TaskIdInPath) -> ShapeResponse[Task]:
    """Get a task, optionally waiting until it finishes."""
    caller, task_id = await get_caller(request), valid_task_id(task_id)
    waiter, seconds, fields = service(request, TaskWaiter), requested_wait(request), {}
    if seconds is None or not waiter.may_wait(caller):
        state = await service(request, TaskService).get(caller, task_id)
    else:
        async with watch_disconnect(request.receive) as disconnected:
            state = await waiter.until_ended(caller, task_id, seconds, disconnected)
        fields = applied(seconds)
    return ShapeResponse(task_shape(state, service(request, Settings).base_url), headers=fields)


@router.post("/{task_id}/cancel", responses=problems(404, 409))
async def cancel_task(
    task_id: TaskId, caller: CurrentCaller, tasks: Tasks, settings: CurrentSettings
) -> ShapeResponse[Task]:
    """Cancel a queued task."""
    return ShapeResponse(task_shape(await tasks.cancel(caller, task_id), settings.base_url))


@router.post(
    "/{task_id}/retry",
    status_code=202,
    responses={200: _FINISHED, 202: {"headers": _ACCEPTED}, **problems(404, 409, 410, 422, 429)},
    openapi_extra=documented(_IDEMPOTENCY_KEY, PREFER),
)
async def retry_task(request: Request, task_id: TaskId, caller: CurrentCaller, tasks: Tasks) -> ShapeResponse[Task]:
    """Retry a failed or canceled task as a new task."""
    state, is_replay = await tasks.retry(caller, task_id, _IDEMPOTENCY_KEY.read(request))
    return await _accepted(request, caller, state, is_replay=is_replay)


@router.delete("/{task_id}", status_code=204, responses=problems(404, 409))
async def delete_task(task_id: TaskId, caller: CurrentCaller, tasks: Tasks) -> Response:
    """Delete a finished task with everything that belongs to it.

    This includes its images, callbacks, events and webhook deliveries.
    """
    await tasks.delete(caller, task_id)
    return Response(status_code=204)


@router.get("/{task_id}/callbacks", responses=problems(404))
async def list_task_callbacks(task_id: TaskId, caller: CurrentCaller, tasks: Tasks) -> ShapeResponse[CallbackList]:
    """List the callbacks received for a task, newest first."""
    callbacks = await tasks.callbacks(caller, task_id)
    return ShapeResponse(CallbackList([callback_shape(callback) for callback in callbacks]))


async def _accepted(request: Request, caller: Caller, state: TaskState, *, is_replay: bool) -> ShapeResponse[Task]:
    """Respond with an accepted task, after waiting if requested."""
    settings = service(request, Settings)
    fields = {"Location": f"{settings.path_prefix}/v1/tasks/{state.task.id}"}
    if is_replay:
        fields["Idempotent-Replayed"] = "true"
    waiter, seconds, status = service(request, TaskWaiter), preferred_wait(request), 202
    if seconds is not None and waiter.may_wait(caller):
        async with watch_disconnect(request.receive) as disconnected:
            state = await waiter.after_submit(caller, state, seconds, disconnected)
        fields |= applied(seconds)
        status = 200 if state.task.is_terminal else 202
    return ShapeResponse(task_shape(state, settings.base_url), status, fields)
