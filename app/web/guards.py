"""Guards against requests for other hosts and from other origins."""

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
    """Rejects requests whose `Host` is not allowed.

    Without `allowed_hosts` all hosts are allowed, or only loopback while the service runs without keys: otherwise any
    web page could reach it by a name that resolves to loopback (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, *, is_open: IsOpen, allowed_hosts: Collection[str]) -> None:
        self._app = app
        self._is_open = is_open
        self._hosts = frozenset(host for host in allowed_hosts if not host.startswith("*."))
        # With the dot: *.example.com doesn't include example.com.
        self._domains = tuple(host[1:] for host in allowed_hosts if host.startswith("*."))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or reject a request."""
        if _is_guarded(scope) and not await self._is_allowed(_host_of(header(scope, b"host") or "")):
            error = HostNotAllowed("The host in the request is not allowed; add it to ALLOWED_HOSTS.")
            await from_error(error)(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _is_allowed(self, host: str) -> bool:
        if self._hosts or self._domains:
            return host in self._hosts or host.endswith(self._domains)
        return is_loopback(host) or not await self._is_open()


class OriginGuard:
    """Rejects requests from pages of other origins while the service runs without keys.

    `origins` are allowed in addition to the service's own. Another port of this machine is another origin.
    """

    def __init__(self, app: ASGIApp, *, is_open: IsOpen, origins: Collection[str]) -> None:
        self._app = app
        self._is_open = is_open
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or reject a request."""
        if _is_guarded(scope) and self._is_foreign(scope) and await self._is_open():
            error = OriginNotAllowed(
                "Pages of this origin are not allowed while the service runs without keys; add it to CORS_ORIGINS."
            )
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
        # Browsers send no `Origin` for links, images and the like. Links and result images are allowed from any page.
        if header(scope, b"sec-fetch-site") not in {"cross-site", "same-site"}:
            return False
        is_link = header(scope, b"sec-fetch-mode") == "navigate" and scope["method"] == "GET"
        return not is_link and not scope["path"].startswith(_IMAGES)


def _is_guarded(scope: Scope) -> bool:
    return scope["type"] == "http" and not scope["path"].startswith(_UNGUARDED)


@lru_cache(maxsize=256)
def _host_of(netloc: str) -> str:
    """Return the name or address in a `Host` header, or "" if it is malformed."""
    match = _HOST.fullmatch(netloc.lower())
    return match[1].strip("[]").rstrip(".") if match else ""
