"""Checks the host, origin and body size of every request."""

import re
from collections.abc import Awaitable, Callable, Collection, Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import GatewayError, HostNotAllowed, OriginNotAllowed
from app.settings import is_loopback
from app.web.body import SMALL_BODY_BYTES, check_declared_length
from app.web.headers import header
from app.web.problems import from_error

# Probes can use any address of the service. Callbacks are authenticated by their token.
_UNGUARDED = ("/healthz", "/readyz", "/callbacks/")
_IMAGES = "/v1/images/"
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\s\[\]:/?#@\\]+)(:[0-9]{0,5})?")

IsOpen = Callable[[], Awaitable[bool]]
"""Whether the service runs without keys; raises `ServiceUnavailable`."""
Check = Callable[[Scope], Awaitable[None]]
"""Raises a `GatewayError` to reject a request."""

# These routes read bodies, each with its own limit.
_READ_AT = ("/v1/tasks", "/v1/uploads", "/v1/tokens")
_READ_BELOW = ("/callbacks/", "/api/v1/")


class Guarded:
    """Runs checks before an application; responds if one fails."""

    def __init__(self, app: ASGIApp, checks: Sequence[Check]) -> None:
        self._app = app
        self._checks = checks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve or reject one request."""
        if scope["type"] == "http":
            try:
                for check in self._checks:
                    await check(scope)
            except GatewayError as error:
                await from_error(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class HostGuard:
    """Rejects requests with a `Host` that is not allowed.

    If `allowed_hosts` is empty, all hosts are allowed, but only loopback while the service runs without keys. Otherwise
    any web page could reach it under a name that resolves to loopback (DNS rebinding). `own_hosts` are always allowed.
    """

    def __init__(self, *, is_open: IsOpen, allowed_hosts: Collection[str], own_hosts: Collection[str]) -> None:
        self._is_open = is_open
        self._own = frozenset(own_hosts)
        self._hosts = frozenset(host for host in allowed_hosts if not host.startswith("*."))
        # Keep the dot, because *.example.com doesn't include example.com.
        self._domains = tuple(host[1:] for host in allowed_hosts if host.startswith("*."))

    async def check(self, scope: Scope) -> None:
        """Raise `HostNotAllowed` unless the host is allowed."""
        if _is_guarded(scope) and not await self._is_allowed(_host_of(header(scope, b"host") or "")):
            raise HostNotAllowed("The host in the request is not allowed; add it to ALLOWED_HOSTS.")

    async def _is_allowed(self, host: str) -> bool:
        if host in self._own:
            return True
        if self._hosts or self._domains:
            return host in self._hosts or host.endswith(self._domains)
        return is_loopback(host) or not await self._is_open()


class OriginGuard:
    """Rejects requests from pages of other origins.

    Applies while the service runs without keys. `origins` are allowed in addition to the service's own origin. A
    different port on this machine is a different origin.
    """

    def __init__(self, *, is_open: IsOpen, origins: Collection[str]) -> None:
        self._is_open = is_open
        self._origins = frozenset(origins)

    async def check(self, scope: Scope) -> None:
        """Raise `OriginNotAllowed` if the origin is not allowed."""
        if _is_guarded(scope) and self._is_foreign(scope) and await self._is_open():
            raise OriginNotAllowed(
                "Pages of this origin are not allowed while the service runs without keys; add it to CORS_ORIGINS."
            )

    def _is_foreign(self, scope: Scope) -> bool:
        origin = header(scope, b"origin")
        if origin is not None:
            scheme, separator, netloc = origin.lower().partition("://")
            own = (header(scope, b"host") or "").lower()
            is_own = scheme in {"http", "https"} and separator and netloc == own
            return not is_own and origin not in self._origins
        # Browsers send no `Origin` for links and images. Any page may link to this service and show its result images.
        if header(scope, b"sec-fetch-site") not in {"cross-site", "same-site"}:
            return False
        is_link = header(scope, b"sec-fetch-mode") == "navigate" and scope["method"] == "GET"
        return not is_link and not scope["path"].startswith(_IMAGES)


async def check_small_body(scope: Scope) -> None:
    """Raise `BodyTooLarge` for a large body that no route reads.

    Checks only the declared length. Of a body without one, the server buffers about 64 KiB before the response.
    """
    if not reads_body(scope):
        check_declared_length(header(scope, b"content-length"), SMALL_BODY_BYTES)


def reads_body(scope: Scope) -> bool:
    """Whether a request's route reads its body."""
    path = scope["path"]
    return scope["method"] == "POST" and (path in _READ_AT or path.startswith(_READ_BELOW))


def _is_guarded(scope: Scope) -> bool:
    return not scope["path"].startswith(_UNGUARDED)


def _host_of(netloc: str) -> str:
    """Return the host without its port, or "" if malformed."""
    match = _HOST.fullmatch(netloc.lower())
    return match[1].strip("[]").rstrip(".") if match else ""
