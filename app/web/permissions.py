"""The routes that browser tokens may use.

Browser tokens can't use a new route until it is listed here. docs/reference/access.md has the same list as a table. A
test compares the two.
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
"""Methods and paths, as in the OpenAPI document."""

QUERY_TOKEN_ROUTES = frozenset({("GET", "/v1/tasks/{task_id}/events"), ("GET", "/v1/events")})
"""Routes that accept a token in the query, because `EventSource` can't send headers."""

ACCESS_TOKEN: Parameter[str] = Parameter(
    "access_token",
    "query",
    str,
    "A browser token, for clients that can't set headers; the `Authorization` header takes precedence. API keys are "
    "rejected here, because URLs end up in logs and browser histories.",
)


def route_of(scope: Scope) -> tuple[str, str]:
    """Return a route's method and path, as in `TOKEN_ROUTES`."""
    return scope["method"], scope["route"].path


def check_token_route(caller: Caller, scope: Scope) -> None:
    """Raise `Forbidden` if a browser token can't use the route."""
    if caller.token is not None and route_of(scope) not in TOKEN_ROUTES:
        raise Forbidden("This route requires an API key.")
