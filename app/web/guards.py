"""Guards against requests for other hosts and from foreign web pages.

They return the next layer's awaitable instead of awaiting it: each frame costs every request that waits for a commit.
"""

import re
from collections.abc import Awaitable, Callable, Collection
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import HostNotAllowed, OriginNotAllowed
from app.settings import is_loopback
from app.web.headers import header
from app.web.problems import from_error

# Probes use whatever address the orchestrator knows; callbacks are authenticated by their token.
_UNGUARDED = ("/healthz", "/readyz", "/callbacks/")
_IMAGES = "/v1/images/"
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s\[\]:/?#@\\]+)(:[0-9]{0,5})?")

IsOpen = Callable[[], Awaitable[bool]]
"""Whether the service runs without keys."""


class HostGuard:
    """Refuses requests whose `Host` is not allowed.

    Without `allowed_hosts` every host is, except that an open service answers only to loopback: every page in a browser
    on this machine could reach it by a name made to resolve to loopback (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, is_open: IsOpen, allowed_hosts: Collection[str]) -> None:
        self._app = app
        self._is_open = is_open
        self._hosts = frozenset(host for host in allowed_hosts if not host.startswith("*."))
        # With the dot: *.example.com means only names below it.
        self._domains = tuple(host[1:] for host in allowed_hosts if host.startswith("*."))

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve or refuse a request."""
        if not _is_guarded(scope):
            return self._app(scope, receive, send)
        host = _host_of(header(scope, b"host") or "")
        if self._hosts or self._domains:
            is_allowed = host in self._hosts or host.endswith(self._domains)
            return (self._app if is_allowed else self._refuse)(scope, receive, send)
        if is_loopback(host):
            return self._app(scope, receive, send)
        return self._serve_unless_open(scope, receive, send)

    async def _serve_unless_open(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._refuse if await self._is_open() else self._app)(scope, receive, send)

    @staticmethod
    async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
        error = HostNotAllowed(
            "This service does not answer to the host that the request names; ALLOWED_HOSTS says to which it does."
        )
        await from_error(error)(scope, receive, send)


class OriginGuard:
    """Refuses requests from pages of other origins while the service is open.

    `origins` are those allowed beside the service's own. Other ports of this machine are other origins.
    """

    def __init__(self, app: ASGIApp, *, is_open: IsOpen, origins: Collection[str]) -> None:
        self._app = app
        self._is_open = is_open
        self._origins = frozenset(origins)

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve or refuse a request."""
        if _is_guarded(scope) and self._is_foreign(scope):
            return self._refuse_if_open(scope, receive, send)
        return self._app(scope, receive, send)

    async def _refuse_if_open(self, scope: Scope, receive: Receive, send: Send) -> None:
        if await self._is_open():
            error = OriginNotAllowed("This service runs without keys and does not answer to pages of other origins.")
            await from_error(error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

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
