"""Routes that tell what happens: the events of one task, or of all tasks of a project."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query
from starlette.responses import Response

from app.api.dependencies import CurrentCaller, Services, TaskId, bearer, problems
from app.api.event_stream import EventStream
from app.api.permissions import ACCESS_TOKEN_PARAMETER
from app.errors import InvalidRequest

router = APIRouter(
    prefix="/v1", tags=["events"], dependencies=[Depends(bearer)], responses=problems(401, 403, 422, 503)
)

_LARGEST_ID = 2**63 - 1
_WHOLE_NUMBER: dict[str, Any] = {"pattern": "^[0-9]*$"}
_EVENT = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]+$"},
        "event": {"type": "string", "examples": ["task.succeeded"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/TaskView"},
        },
        "retry": {"type": "integer"},
    },
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Each event has `id`, `event` (such as `task.succeeded`) and `data`, the task as JSON.",
        "content": {"text/event-stream": {"itemSchema": _EVENT}},
    },
    204: {"description": "There is nothing more to tell: don't come back."},
}


def get_last_event_id(
    header: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description="Resume after this event; browsers send it by themselves.",
            json_schema_extra=_WHOLE_NUMBER,
        ),
    ] = None,
    last_event_id: Annotated[
        str | None,
        Query(
            description="The same, for clients that can't set headers; the header wins.",
            json_schema_extra=_WHOLE_NUMBER,
        ),
    ] = None,
) -> int | None:
    """Return after which event to resume, None for none; raises `InvalidRequest`."""
    given = {"Last-Event-ID": header or "", "last_event_id": last_event_id or ""}
    wrong = [field for field, text in given.items() if not re.fullmatch(r"[0-9]*", text)]
    if wrong:
        message = "must be the id of an event, a whole number"
        raise InvalidRequest("Some parameters are wrong.", [{"field": field, "message": message} for field in wrong])
    text = header or last_event_id
    if not text:
        return None
    digits = text.lstrip("0") or "0"
    return int(digits) if len(digits) < len(str(_LARGEST_ID)) else _LARGEST_ID


LastEventId = Annotated[int | None, Depends(get_last_event_id)]


@router.get(
    "/tasks/{task_id}/events",
    status_code=200,
    response_class=EventStream,
    responses={**problems(404), **_RESPONSES},
    openapi_extra={"parameters": [ACCESS_TOKEN_PARAMETER]},
)
async def follow_task(task_id: TaskId, after: LastEventId, caller: CurrentCaller, services: Services) -> Response:
    """Follow a task: its events so far, then those to come, until it has ended."""
    return EventStream(services.streams.of_task(caller, task_id, after=after))


@router.get(
    "/events",
    status_code=200,
    response_class=EventStream,
    responses=_RESPONSES,
    openapi_extra={"parameters": [ACCESS_TOKEN_PARAMETER]},
)
async def follow_project(after: LastEventId, caller: CurrentCaller, services: Services) -> Response:
    """Follow all tasks of the project (with a browser token, those of its subject), from now on or from where the last stream ended."""
    return EventStream(services.streams.of_project(caller, after=after))
