"""The shortcut: the busiest routes are called without the framework's machinery around them."""

from collections.abc import Awaitable, Callable, Iterable
from re import Pattern

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.problems import from_error
from app.errors import GatewayError

Endpoint = Callable[..., Awaitable[Response]]


class Shortcut:
    """Calls some routes' functions directly; every other request goes the framework's way.

    Matching, dependencies and exit stacks take the framework longer than these functions take for all they do. They
    ask for nothing but the request and the parts of the path, so either way calls them alike, and the framework
    documents them.
    """

    def __init__(self, app: ASGIApp, *, routes: Iterable[BaseRoute], endpoints: Iterable[Endpoint]) -> None:
        self._app = app
        wanted = set(endpoints)
        self._routes: dict[str, list[tuple[Pattern[str], APIRoute]]] = {}
        for route in routes:
            if isinstance(route, APIRoute) and route.endpoint in wanted:
                for method in route.methods or ():
                    self._routes.setdefault(method, []).append((route.path_regex, route))

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request."""
        if scope["type"] == "http":
            for pattern, route in self._routes.get(scope["method"], ()):
                if match := pattern.match(scope["path"]):
                    scope["route"] = route
                    return _call(route.endpoint, match.groupdict(), scope, receive, send)
        return self._app(scope, receive, send)


async def _call(endpoint: Endpoint, parameters: dict[str, str], scope: Scope, receive: Receive, send: Send) -> None:
    try:
        answer = await endpoint(Request(scope, receive), **parameters)
    except GatewayError as error:
        answer = from_error(error)
    await answer(scope, receive, send)
