"""What route functions are handed: the services, and who calls."""

import re
import time
from contextlib import AbstractContextManager
from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.security import HTTPBearer

from app.api.headers import header
from app.api.large_bodies import LargeBodies, Room
from app.api.permissions import ACCESS_TOKEN, QUERY_TOKEN_ROUTES, check_token_route, route_of
from app.domain.browser_token import TOKEN_PREFIX
from app.errors import TaskNotFound, Unauthorized
from app.factory import Factory
from app.services.tasks import Caller

_A_MOMENT_SECONDS = 0.3
TASK_ID = re.compile(r"task_[0-9a-f]{32}")
# For the API's document only; `Access` checks the header, as it knows whether a key is needed.
bearer = HTTPBearer(scheme_name="bearerAuth", auto_error=False, description="An API key or a browser token.")
TaskIdInPath = Annotated[str, Path(description="Id of the task.", examples=["task_0199f6a0c0de7a3b8c9d0e1f2a3b4c5d"])]


async def get_factory(request: Request) -> Factory:
    """Return the process's services. (A plain function would be called in a thread.)"""
    return factory_of(request)


async def get_caller(request: Request) -> Caller:
    """Tell who calls; raises `Unauthorized`, and `Forbidden` for what a browser token can't be used for."""
    access = factory_of(request).access
    authorization = header(request.scope, b"authorization")
    token = _token_in_query(request) if authorization is None and request.scope["query_string"] else ""
    caller = await (access.by_token(token) if token else access.authenticate(authorization))
    check_token_route(caller, request.scope)
    return caller


async def ask_again(request: Request, caller: Caller, asked_at: float) -> Caller:
    """Tell who calls once a body has arrived, which may have taken minutes; `asked_at` by `time.monotonic()`.

    Meanwhile a key may be revoked and a token expire; what was so a moment ago holds, as it does for everybody.
    """
    return caller if time.monotonic() - asked_at < _A_MOMENT_SECONDS else await get_caller(request)


CurrentCaller = Annotated[Caller, Depends(get_caller)]


def _token_in_query(request: Request) -> str:
    """Return the token in the query of a route where it may stand, "" without one."""
    if route_of(request.scope) not in QUERY_TOKEN_ROUTES:
        return ""
    token = ACCESS_TOKEN.text(request) or ""
    if token and not token.startswith(TOKEN_PREFIX):
        # It may be in a log by now. API keys must not work here.
        raise Unauthorized(f"{ACCESS_TOKEN.name} takes a browser token; send API keys in the Authorization header.")
    return token


async def get_task_id(task_id: TaskIdInPath, _caller: CurrentCaller) -> str:
    """Return the id in the path; raises `TaskNotFound` for what can't be one (PostgreSQL chokes on a NUL in it)."""
    return known_form(task_id)


def factory_of(request: Request) -> Factory:
    """Return the process's services."""
    factory: Factory = request.scope["state"]["factory"]
    return factory


def room_of(request: Request) -> AbstractContextManager[Room]:
    """Return what a body with pictures in it may take; base64 is a third longer, JSON's escapes a little more."""
    bodies: LargeBodies = request.scope["state"]["large_bodies"]
    return bodies.room(factory_of(request).settings.max_image_bytes * 3 // 2)


def known_form(task_id: str) -> str:
    """Return a task's id; raises `TaskNotFound` for what can't be one."""
    if not TASK_ID.fullmatch(task_id):
        raise TaskNotFound("There is no task with this id.")
    return task_id


Services = Annotated[Factory, Depends(get_factory)]
TaskId = Annotated[str, Depends(get_task_id)]
