"""Routes for event streams of a task or a project."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BeforeValidator, WithJsonSchema
from starlette.responses import Response

from app.events.sse import EventStream
from app.events.streams import Streams
from app.web.dependencies import CurrentCaller, TaskId, bearer
from app.web.openapi import problems
from app.web.parameters import Parameter, documented
from app.web.permissions import ACCESS_TOKEN
from app.web.services import provide

router = APIRouter(
    prefix="/v1", tags=["events"], dependencies=[Depends(bearer)], responses=problems(401, 403, 422, 429, 503)
)

_MAX_ID = 2**63 - 1
_EXAMPLE = (
    'id: 17\nevent: task.succeeded\ndata: {"id":"task_0199f6a0c0de7a3b8c9d0e1f2a3b4c5d","status":"succeeded"}\n\n'
)
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Each event has an `id`, an `event` type such as `task.succeeded`, and `data`: the task as it was "
        "at the event (`Task`) in one line of JSON. A stream that is cut short ends with the event `stream.cut`; its `data` "
        "is a `Problem`.",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
    },
    204: {"description": "There are no more events. Don't reconnect."},
}


def _event_id(text: str) -> int:
    if not re.fullmatch(r"[0-9]*", text):
        raise ValueError("must be an event ID, a whole number")
    digits = text.lstrip("0") or "0"
    return int(digits) if len(digits) < len(str(_MAX_ID)) else _MAX_ID


_EventId = Annotated[int, BeforeValidator(_event_id), WithJsonSchema({"type": "string", "pattern": "^[0-9]*$"})]
_HEADER: Parameter[int] = Parameter(
    "Last-Event-ID", "header", _EventId, "Resume after this event. Browsers send it when they reconnect."
)
_QUERY: Parameter[int] = Parameter(
    "last_event_id",
    "query",
    _EventId,
    "The same, for clients that can't set headers. `Last-Event-ID` takes precedence.",
)


async def get_last_event_id(request: Request) -> int | None:
    """Return the event ID to resume after; raises `InvalidRequest`."""
    given = [parameter for parameter in (_HEADER, _QUERY) if parameter.text(request)]
    ids = [parameter.read(request) for parameter in given]
    return ids[0] if ids else None


OpenStreams = Annotated[Streams, provide(Streams)]
LastEventId = Annotated[int | None, Depends(get_last_event_id)]


@router.get(
    "/tasks/{task_id}/events",
    status_code=200,
    response_class=EventStream,
    responses={**problems(404), **_RESPONSES},
    openapi_extra=documented(_HEADER, _QUERY, ACCESS_TOKEN),
)
async def stream_task_events(
    task_id: TaskId, after: LastEventId, caller: CurrentCaller, streams: OpenStreams
) -> Response:
    """Stream the events of a task.

    Sends past events first, then new ones until the task finishes.
    """
    return EventStream(streams.of_task(caller, task_id, after=after))


@router.get(
    "/events",
    status_code=200,
    response_class=EventStream,
    responses=_RESPONSES,
    openapi_extra=documented(_HEADER, _QUERY, ACCESS_TOKEN),
)
async def stream_events(after: LastEventId, caller: CurrentCaller, streams: OpenStreams) -> Response:
    """Stream the events of all tasks of the project.

    Starts after `Last-Event-ID`, or else with new events. A browser token only receives events of its subject's tasks.
    """
    return EventStream(streams.of_project(caller, after=after))
