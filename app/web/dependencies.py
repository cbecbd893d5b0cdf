"""Route dependencies: services, the caller, parameters."""

import re
from contextlib import AbstractContextManager
from typing import Annotated, Protocol

from fastapi import Depends, Path, Request
from fastapi.security import HTTPBearer

from app.domain.browser_token import TOKEN_PREFIX
from app.domain.caller import Caller
from app.errors import TaskNotFound, Unauthorized
from app.settings import Settings
from app.web.headers import header
from app.web.memory_budget import MemoryBudget, MemoryPermit
from app.web.permissions import ACCESS_TOKEN, QUERY_TOKEN_ROUTES, check_token_route, route_of
from app.web.services import provide, service

TASK_ID = re.compile(r"task_[0-9a-f]{32}")
# For the OpenAPI document only; the authenticator checks the header.
bearer = HTTPBearer(scheme_name="bearerAuth", auto_error=False, description="An API key or a browser token.")
TaskIdInPath = Annotated[str, Path(description="ID of the task.", examples=["task_0199f6a0c0de7a3b8c9d0e1f2a3b4c5d"])]


class CallerAuthenticator(Protocol):
    """Identifies the caller of a request; raises `Unauthorized`."""

    async def authenticate(self, authorization: str | None) -> Caller:
        """Return the caller identified by the `Authorization` header."""
        ...

    async def by_token(self, text: str) -> Caller:
        """Return the caller identified by a browser token."""
        ...

    async def is_open(self) -> bool:
        """Whether the service runs without keys."""
        ...


def authenticator_of(request: Request) -> CallerAuthenticator:
    """Return the process's authenticator."""
    authenticator: CallerAuthenticator = request.scope["state"]["authenticator"]
    return authenticator


async def get_caller(request: Request) -> Caller:
    """Return the caller; raises `Unauthorized` or `Forbidden`."""
    authenticator = authenticator_of(request)
    authorization = header(request.scope, b"authorization")
    token = _token_in_query(request) if authorization is None else ""
    caller = await (authenticator.by_token(token) if token else authenticator.authenticate(authorization))
    check_token_route(caller, request.scope)
    return caller


CurrentCaller = Annotated[Caller, Depends(get_caller)]


def _token_in_query(request: Request) -> str:
    """Return the token in the query, or "" if none."""
    if route_of(request.scope) not in QUERY_TOKEN_ROUTES:
        return ""
    token = ACCESS_TOKEN.text(request) or ""
    if token and not token.startswith(TOKEN_PREFIX):
        # API keys must not work here: URLs end up in logs.
        raise Unauthorized(f"{ACCESS_TOKEN.name} must be a browser token; send API keys in the Authorization header.")
    return token


async def get_task_id(task_id: TaskIdInPath, _caller: CurrentCaller) -> str:
    """Return the task ID in the path; raises `TaskNotFound`."""
    return valid_task_id(task_id)


def memory_permit(request: Request) -> AbstractContextManager[MemoryPermit]:
    """Return the permit for a body that contains images."""
    # Base64 adds a third, and JSON escapes a little more.
    return service(request, MemoryBudget).permit(service(request, Settings).max_upload_bytes * 3 // 2)


def valid_task_id(task_id: str) -> str:
    """Return the ID; raises `TaskNotFound` if it is malformed."""
    # A NUL character would make PostgreSQL fail.
    if not TASK_ID.fullmatch(task_id):
        raise TaskNotFound("No task has this ID.")
    return task_id


CurrentSettings = Annotated[Settings, provide(Settings)]
TaskId = Annotated[str, Depends(get_task_id)]
