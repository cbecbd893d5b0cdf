"""Middleware for request IDs, logging, headers and uncaught errors."""

import logging
import re
import time
from collections.abc import Awaitable
from http import HTTPStatus

import structlog
import uuid_utils
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.logging import bind_request_id
from app.web.headers import NO_SNIFF, Networks, ResponseHeaders, client_address, header
from app.web.problems import internal_error

_VALID_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_QUIET_PATHS = frozenset({"/healthz", "/readyz"})
_CALLBACKS = "/callbacks/"
_log = structlog.get_logger("app.request")


class RequestContext:
    """Assigns request IDs, logs requests and handles uncaught errors.

    A valid ID from the client is kept. `on_error` is the application that responds to uncaught errors.
    """

    def __init__(
        self, app: ASGIApp, *, response_headers: ResponseHeaders, on_error: ASGIApp, trusted_proxies: Networks
    ) -> None:
        self._app = app
        self._complete = response_headers.complete
        self._on_error = on_error
        self._trusted_proxies = trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        given = header(scope, b"x-request-id")
        request_id = given if given and _VALID_ID.fullmatch(given) else uuid_utils.uuid4().hex
        bind_request_id(request_id)
        status = 0

        def send_with_id(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                headers = message["headers"]
                # Callbacks are frequent and don't come from browsers.
                is_callback = scope["path"].startswith(_CALLBACKS)
                message["headers"] = [*headers, NO_SNIFF] if is_callback else self._complete(headers)
                message["headers"].append((b"x-request-id", request_id.encode()))
            return send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            _log.debug("client_left", method=scope["method"], path=scope["path"])
        except Exception:  # noqa: BLE001 -- logged here, since clients must not see details
            _log.exception("request_failed", method=scope["method"], path=scope["path"])
            if status == 0:
                await self._on_error(scope, receive, send_with_id)
        finally:
            self._log_request(scope, status, began)

    def _log_request(self, scope: Scope, status: int, began: float) -> None:
        """Log failures; services log successes. Debug logs everything."""
        is_failure = status >= HTTPStatus.BAD_REQUEST and scope["path"] not in _QUIET_PATHS
        if is_failure or _log.is_enabled_for(logging.DEBUG):
            log = _log.info if is_failure else _log.debug
            log(
                "request",
                method=scope["method"],
                path=scope["path"],
                status=status,
                milliseconds=round((time.perf_counter() - began) * 1000, 1),
                client=client_address(scope, self._trusted_proxies),
                **scope.get("state", {}).get("problem", {}),
            )


async def respond_internal_error(scope: Scope, receive: Receive, send: Send) -> None:
    """Respond to a request that raised an uncaught error."""
    await internal_error()(scope, receive, send)
