"""Responses to requests that don't reach the application."""

from http import HTTPStatus

import structlog
import uuid_utils
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import (
    GatewayError,
    HeadersTooLarge,
    MalformedRequest,
    RequestTimeout,
    TooManyConnections,
    UriTooLong,
)
from app.logging import bind_request_id
from app.web.headers import NO_SNIFF, NO_STORE
from app.web.problems import LOGGED_CHARACTERS, from_error

_ERRORS: dict[int, type[GatewayError]] = {
    HTTPStatus.BAD_REQUEST: MalformedRequest,
    HTTPStatus.REQUEST_TIMEOUT: RequestTimeout,
    HTTPStatus.REQUEST_URI_TOO_LONG: UriTooLong,
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: HeadersTooLarge,
}
_CALLBACKS = "/callbacks/"
_PROBES = frozenset({"/healthz", "/readyz"})
_log = structlog.get_logger("app.request")


def refuse(status: int, detail: str, client: tuple[str, int] | None) -> Response:
    """Log a refused request and return its response.

    Must run in its own context, because it binds a request ID.
    """
    error = _ERRORS[status](detail)
    request_id = uuid_utils.uuid4().hex
    bind_request_id(request_id)
    address = f"{client[0]}:{client[1]}" if client else None
    _log.info("request_refused", status=status, code=error.code, detail=detail[:LOGGED_CHARACTERS], client=address)
    response = from_error(error)
    response.raw_headers += [NO_SNIFF, NO_STORE, (b"x-request-id", request_id.encode())]
    return response


class SpareConnections:
    """Serves only callbacks and health probes.

    For connections over the limit. Each closes after its response, because there are few of them.
    """

    def __init__(self, app: ASGIApp, refusal: ASGIApp) -> None:
        self._app = app
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"connection", b"close")]
            await send(message)

        path = scope.get("path", "")
        is_served = path.startswith(_CALLBACKS) or path in _PROBES
        await (self._app if is_served else self._refusal)(scope, receive, send_last)


async def respond_overloaded(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with 503 on a connection over the limit."""
    await from_error(TooManyConnections("Too many connections are open; try again."))(scope, receive, send)
