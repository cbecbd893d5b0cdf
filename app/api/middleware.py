"""What surrounds every request: its id, its log line, the last net for errors, and the gate of an open service."""

import re
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import urlsplit

import structlog
import uuid_utils
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import from_error, internal_error
from app.errors import GatewayError, HostNotAllowed, OriginNotAllowed
from app.settings import is_loopback

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_QUIET_PATHS = frozenset({"/healthz", "/readyz"})
# Probes come with whatever address the orchestrator knows; callbacks carry their own proof.
_UNGATED = ("/healthz", "/readyz", "/callbacks/")
_log = structlog.get_logger("app.request")


class RequestContext:
    """Gives each request an id (the caller's, if sane), logs it, and turns what nobody caught into a plain 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = header(scope, b"x-request-id") or ""
        request_id = given if _SANE_ID.fullmatch(given) else uuid_utils.uuid4().hex
        structlog.contextvars.bind_contextvars(request_id=request_id)
        id_header = (b"x-request-id", request_id.encode())
        began = time.perf_counter()
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                message["headers"] = [*message["headers"], id_header]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            _log.debug("client_left", method=scope["method"], path=scope["path"])
        except Exception:  # noqa: BLE001 -- the last net: logged here, and nothing of it reaches the caller
            _log.exception("request_failed", method=scope["method"], path=scope["path"])
            if status == 0:
                await internal_error()(scope, receive, send_with_id)
        finally:
            # What went well is told by the service that did it, as far as it changed anything.
            line = _log.info if status >= HTTPStatus.BAD_REQUEST and scope["path"] not in _QUIET_PATHS else _log.debug
            elapsed = round((time.perf_counter() - began) * 1000, 1)
            line("request", method=scope["method"], path=scope["path"], status=status, milliseconds=elapsed)


class Gate:
    """Turns away requests by their `Host`, and, while the service is open, those that other web pages send.

    An open service on loopback can be reached by every page in a browser on this machine: by its address (told by
    `Origin`) and by a name that was made to resolve to it (told by `Host`).
    """

    def __init__(self, app: ASGIApp, *, is_open: Callable[[], Awaitable[bool]], allowed_hosts: list[str]) -> None:
        self._app = app
        self._is_open = is_open
        self._allowed_hosts = frozenset(host.lower() for host in allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or turn away one request."""
        if scope["type"] == "http" and not scope["path"].startswith(_UNGATED):
            try:
                await self._check(header(scope, b"host") or "", header(scope, b"origin"))
            except GatewayError as error:
                await from_error(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _check(self, netloc: str, origin: str | None) -> None:
        host = _host_of(f"//{netloc}")
        is_open = await self._is_open()
        if not self._answers_to(host, is_open=is_open):
            raise HostNotAllowed(
                "This service does not answer to the host that the request names; ALLOWED_HOSTS says to which it does."
            )
        if is_open and origin is not None and not self._is_own(origin, netloc):
            raise OriginNotAllowed("This service runs without keys and does not answer to pages of other origins.")

    def _is_own(self, origin: str, host: str) -> bool:
        """Whether a page comes from this very service: other ports of this machine are other people's pages."""
        _, separator, netloc = origin.partition("://")
        return bool(separator) and (netloc.lower() == host.lower() or _host_of(origin) in self._allowed_hosts)

    def _answers_to(self, host: str, *, is_open: bool) -> bool:
        if self._allowed_hosts:
            return host in self._allowed_hosts
        return is_loopback(host) if is_open else True


def header(scope: Scope, name: bytes) -> str | None:
    """Return a header's value, the first if it comes more than once; `name` in lower case."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return None


@lru_cache(maxsize=256)
def _host_of(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""
