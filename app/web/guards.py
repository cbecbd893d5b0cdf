"""Guards against requests for other hosts and from foreign web pages."""

import re
from collections.abc import Awaitable, Callable, Collection
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import GatewayError, HostNotAllowed, OriginNotAllowed
from app.settings import is_loopback
from app.web.headers import header
from app.web.problems import from_error

# Probes use whatever address the orchestrator knows; callbacks are authenticated by their token.
_UNGUARDED = ("/healthz", "/readyz", "/callbacks/")
_IMAGES = "/v1/images/"
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s\[\]:/?#@\\]+)(:[0-9]{0,5})?")

IsOpen = Callable[[], Awaitable[bool]]
"""Whether the service runs without keys; raises `ServiceUnavailable`."""


class HostGuard:
    """Refuses requests whose `Host` is not allowed.

    Without `allowed_hosts` any host is, except that an open service answers only to loopback: every page in a browser
    on this machine could reach it by a name made to resolve to loopback (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, is_open: IsOpen, allowed_hosts: Collection[str]) -> None:
        self._app = app
        self._is_open = is_open
        self._hosts = frozenset(host for host in allowed_hosts if not host.startswith("*."))
        # With the dot: *.example.com means only names below it.
        self._domains = tuple(host[1:] for host in allowed_hosts if host.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse a request."""
        try:
            await self._check(scope)
        except GatewayError as error:
            await from_error(error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        if _is_guarded(scope) and not await self._is_allowed(_host_of(header(scope, b"host") or "")):
            raise HostNotAllowed(
                "This service does not answer to the host that the request names; ALLOWED_HOSTS says to which it does."
            )

    async def _is_allowed(self, host: str) -> bool:
        if self._hosts or self._domains:
            return host in self._hosts or host.endswith(self._domains)
        return is_loopback(host) or not await self._is_open()


class OriginGuard:
    """Refuses requests from pages of other origins while the service is open.

    `origins` are those allowed beside the service's own. Other ports of this machine are other origins.
    """

    def __init__(self, app: ASGIApp, *, is_open: IsOpen, origins: Collection[str]) -> None:
        self._app = app
        self._is_open = is_open
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or refuse a request."""
        try:
            await self._check(scope)
        except GatewayError as error:
            await from_error(error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _check(self, scope: Scope) -> None:
        if _is_guarded(scope) and self._is_foreign(scope) and await self._is_open():
            raise OriginNotAllowed("This service runs without keys and does not answer to pages of other origins.")

    def _is_foreign(self, scope: Scope) -> bool:
        origin = header(scope, b"origin")
        if origin is not None:
            scheme, separator, netloc = origin.lower().partition("://")
            own = (header(scope, b"host") or "").lower()
            is_own = scheme in {"http", "https"} and separator and netloc == own
            return not is_own and origin not in self._origins
        # Browsers send no origin for plain loads. Images may be shown on any page, and links may lead here.
        if header(scope, b"sec-fetch-site") not in {"cross-site", "same-site"}:
            return False
        is_link = header(scope, b"sec-fetch-mode") == "navigate" and scope["method"] == "GET"
        return not is_link and not scope["path"].startswith(_IMAGES)


def _is_guarded(scope: Scope) -> bool:
    return scope["type"] == "http" and not scope["path"].startswith(_UNGUARDED)


@lru_cache(maxsize=256)
def _host_of(netloc: str) -> str:
    """Return the name or address in a `Host` header, "" if it is malformed."""
    match = _HOST.fullmatch(netloc.lower())
    return match[1].strip("[]").rstrip(".") if match else ""
