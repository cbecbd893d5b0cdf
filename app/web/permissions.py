"""The routes that browser tokens may use.

A new route is closed to them until it is listed here.

docs/reference/access.md has the same as a table; a test compares the two.
"""

from starlette.types import Scope

from app.domain.caller import Caller
from app.errors import Forbidden
from app.web.parameters import Parameter

TOKEN_ROUTES = frozenset(
    {
        ("POST", "/v1/tasks"),
        ("GET", "/v1/tasks"),
        ("GET", "/v1/tasks/{task_id}"),
        ("POST", "/v1/tasks/{task_id}/retry"),
        ("GET", "/v1/tasks/{task_id}/events"),
        ("GET", "/v1/events"),
        ("POST", "/v1/uploads"),
    }
)
"""Method and path of each route, as in the OpenAPI document."""

QUERY_TOKEN_ROUTES = frozenset({("GET", "/v1/tasks/{task_id}/events"), ("GET", "/v1/events")})
"""Routes that accept a token in the query: `EventSource` can't send headers."""

ACCESS_TOKEN: Parameter[str] = Parameter(
    "access_token",
    "query",
    str,
    "A browser token, for clients that can't set headers; the `Authorization` header takes precedence. API keys are "
    "rejected here, because URLs end up in logs and browser histories.",
)


def route_of(scope: Scope) -> tuple[str, str]:
    """Return method and path of a request's route, as in `TOKEN_ROUTES`."""
    return scope["method"], scope["route"].path


def check_token_route(caller: Caller, scope: Scope) -> None:
    """Raise `Forbidden` for a browser token on a route not in `TOKEN_ROUTES`."""
    if caller.token is not None and route_of(scope) not in TOKEN_ROUTES:
        raise Forbidden("This route requires an API key.")
