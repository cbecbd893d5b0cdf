"""What surrounds every request: its id, its log line, the last net for errors, and the gate of an open service."""

import logging
import re
import time
from collections.abc import Awaitable, Callable, Collection
from functools import lru_cache
from http import HTTPStatus

import structlog
import uuid_utils
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.headers import NO_SNIFF, AnswerHeaders, Networks, client_address, header
from app.api.problems import from_error, internal_error
from app.errors import GatewayError, HostNotAllowed, OriginNotAllowed, TooManyConnections
from app.logs import bind_request_id
from app.settings import is_loopback

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_QUIET_PATHS = frozenset({"/healthz", "/readyz"})
# Probes come with whatever address the orchestrator knows; callbacks carry their own proof.
_CALLBACKS = "/callbacks/"
_UNGATED = ("/healthz", "/readyz", _CALLBACKS)
_PICTURES = "/v1/images/"
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s\[\]:/?#@\\]+)(:[0-9]{0,5})?")
_log = structlog.get_logger("app.request")


class RequestContext:
    """Gives each request an id (the caller's, if sane), logs it, and turns what nobody caught into a plain 500."""

    def __init__(
        self, app: ASGIApp, *, answer_headers: AnswerHeaders, fault: ASGIApp, trusted_proxies: Networks
    ) -> None:
        self._app = app
        self._complete = answer_headers.complete
        self._fault = fault
        self._trusted_proxies = trusted_proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        id_header = begin_request(scope)
        began = time.perf_counter()
        status = 0

        def send_with_id(message: Message) -> Awaitable[None]:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                headers = message["headers"]
                # No browser sees what the upstream is answered, and it is answered often.
                is_callback = scope["path"].startswith(_CALLBACKS)
                message["headers"] = [*headers, NO_SNIFF] if is_callback else self._complete(headers)
                message["headers"].append(id_header)
            return send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            _log.debug("client_left", method=scope["method"], path=scope["path"])
        except Exception:  # noqa: BLE001 -- the last net: logged here, and nothing of it reaches the caller
            _log.exception("request_failed", method=scope["method"], path=scope["path"])
            if status == 0:
                await self._fault(scope, receive, send_with_id)
        finally:
            end_request(scope, status, began, self._trusted_proxies)


def begin_request(scope: Scope) -> tuple[bytes, bytes]:
    """Give a request its id (the caller's, if sane) in all that is logged; returns the header that tells it."""
    given = header(scope, b"x-request-id")
    request_id = given if given and _SANE_ID.fullmatch(given) else uuid_utils.uuid4().hex
    bind_request_id(request_id)
    return (b"x-request-id", request_id.encode())


def end_request(scope: Scope, status: int, began: float, trusted_proxies: Networks) -> None:
    """Log a request that was answered; `began` by `time.perf_counter()`.

    What went well is told by the service that did it, as far as it changed anything.
    """
    is_worth_a_line = status >= HTTPStatus.BAD_REQUEST and scope["path"] not in _QUIET_PATHS
    if is_worth_a_line or _log.is_enabled_for(logging.DEBUG):
        tell = _log.info if is_worth_a_line else _log.debug
        elapsed = round((time.perf_counter() - began) * 1000, 1)
        client = client_address(scope, trusted_proxies)
        tell("request", method=scope["method"], path=scope["path"], status=status, milliseconds=elapsed, client=client)


async def answer_fault(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer what nobody caught, as an application of its own."""
    await internal_error()(scope, receive, send)


async def answer_busy(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer on a connection that is one too many, as an application of its own."""
    answer = from_error(TooManyConnections("This process serves as many connections as it can; try again."))
    answer.headers["Connection"] = "close"
    await answer(scope, receive, send)


class Gate:
    """Turns away requests by their `Host`, and, while the service is open, those that other web pages send.

    An open service on loopback can be reached by every page in a browser on this machine: by its address (told by
    `Origin` or `Sec-Fetch-Site`) and by a name that was made to resolve to it (told by `Host`). `origins` are those
    of pages that may call nevertheless.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        is_open: Callable[[], Awaitable[bool]],
        allowed_hosts: Collection[str],
        origins: Collection[str] = (),
    ) -> None:
        self._app = app
        self._is_open = is_open
        self._allowed_hosts = frozenset(host for host in allowed_hosts if not host.startswith("*."))
        # With the dot: *.example.com stands for names below it alone.
        self._allowed_domains = tuple(host[1:] for host in allowed_hosts if host.startswith("*."))
        self._origins = frozenset(origins)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve or turn away one request."""
        if scope["type"] == "http" and not scope["path"].startswith(_UNGATED):
            return self._guard(scope, receive, send)
        return self._app(scope, receive, send)

    async def _guard(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._check(scope)
        except GatewayError as error:
            await from_error(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        netloc = header(scope, b"host") or ""
        is_open = await self._is_open()
        if not self._answers_to(_host_of(netloc), is_open=is_open):
            raise HostNotAllowed(
                "This service does not answer to the host that the request names; ALLOWED_HOSTS says to which it does."
            )
        if is_open and self._is_foreign(scope, netloc):
            raise OriginNotAllowed("This service runs without keys and does not answer to pages of other origins.")

    def _is_foreign(self, scope: Scope, netloc: str) -> bool:
        """Whether another page sends this; other ports of this machine are other people's pages."""
        origin = header(scope, b"origin")
        if origin is not None:
            scheme, separator, origin_netloc = origin.lower().partition("://")
            is_own = scheme in {"http", "https"} and separator and origin_netloc == netloc.lower()
            return not is_own and origin not in self._origins
        # Browsers name no origin where they only load something. Pictures may be shown anywhere, links may lead here.
        if header(scope, b"sec-fetch-site") not in {"cross-site", "same-site"}:
            return False
        is_link = header(scope, b"sec-fetch-mode") == "navigate" and scope["method"] == "GET"
        return not is_link and not scope["path"].startswith(_PICTURES)

    def _answers_to(self, host: str, *, is_open: bool) -> bool:
        if self._allowed_hosts or self._allowed_domains:
            return host in self._allowed_hosts or host.endswith(self._allowed_domains)
        return is_loopback(host) if is_open else True


@lru_cache(maxsize=256)
def _host_of(netloc: str) -> str:
    """Return the name or address in a `Host` header, "" for what can't be one."""
    match = _HOST.fullmatch(netloc.lower())
    return match[1].strip("[]").rstrip(".") if match else ""
