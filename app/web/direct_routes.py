"""Calls the busiest endpoints without FastAPI's overhead."""

from collections.abc import Awaitable, Callable, Iterable
from re import Pattern

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import GatewayError
from app.web.problems import from_error

Endpoint = Callable[..., Awaitable[Response]]


class DirectRoutes:
    """Calls some endpoints directly; `app` serves all other requests.

    FastAPI's matching, dependencies and exit stacks take longer than these endpoints. They remain routes of `app`,
    which documents them and could serve them too. They can only take the request and path parameters.
    """

    def __init__(self, app: ASGIApp, *, routes: Iterable[BaseRoute], endpoints: Iterable[Endpoint]) -> None:
        self._app = app
        direct = set(endpoints)
        self._routes: dict[str, list[tuple[Pattern[str], APIRoute]]] = {}
        for route in routes:
            if isinstance(route, APIRoute) and route.endpoint in direct:
                for method in route.methods or ():
                    self._routes.setdefault(method, []).append((route.path_regex, route))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            for pattern, route in self._routes.get(scope["method"], ()):
                if match := pattern.match(scope["path"]):
                    # Browser token permissions depend on the route.
                    scope["route"] = route
                    try:
                        response = await route.endpoint(Request(scope, receive), **match.groupdict())
                    except GatewayError as error:
                        response = from_error(error)
                    await response(scope, receive, send)
                    return
        await self._app(scope, receive, send)
