"""Shared tools for requests to user-supplied URLs.

They use the connection pool directly, so that no proxy setting, redirect or cookie interferes.
"""

import email.utils
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any

import httpcore
import httpx

from app.domain.destination import DestinationRules
from app.outbound.connect import GuardedNetwork, Resolve

_MAX_ERROR_CHARACTERS = 200
# Less than servers keep idle connections: the shortest default in wide use is 5 s.
_MAX_IDLE_SECONDS = 2.0
_MAX_RETRY_AFTER_DIGITS = 9

Trace = Callable[[str, dict[str, Any]], Awaitable[None]]


def open_pool(
    rules: DestinationRules,
    *,
    resolve: Resolve | None = None,
    tls: ssl.SSLContext | None = None,
    max_idle: int = 0,
) -> httpcore.AsyncConnectionPool:
    """Open a pool that only connects to permitted addresses.

    Up to `max_idle` connections are kept for a moment and reused. Each leads to the address that was checked when it
    was opened. But the server may close an idle one just as we send; on a fresh one, that ambiguity can't arise.
    """
    return httpcore.AsyncConnectionPool(
        ssl_context=tls or httpx.create_ssl_context(),
        max_connections=None,
        max_keepalive_connections=max_idle,
        keepalive_expiry=_MAX_IDLE_SECONDS,
        network_backend=GuardedNetwork(rules, resolve),
    )


def stream(
    pool: httpcore.AsyncConnectionPool,
    method: str,
    url: httpx.URL,
    headers: Mapping[str, str],
    *,
    content: bytes | None = None,
    step_seconds: float | None = None,
    trace: Trace | None = None,
) -> AbstractAsyncContextManager[httpcore.Response]:
    """Send a request and stream the response.

    `step_seconds` limits each step, such as one read. `trace` receives the events of the connection.
    """
    target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
    general = {"host": url.netloc.decode("ascii")}
    encoded = [(name.encode("ascii"), value.encode("ascii")) for name, value in {**general, **headers}.items()]
    extensions: dict[str, Any] = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), step_seconds)}
    if trace is not None:
        extensions["trace"] = trace
    return pool.stream(method, target, headers=encoded, content=content, extensions=extensions)


def header(response: httpcore.Response, name: bytes) -> str | None:
    """Return the first header with a name given in lowercase."""
    return next((value.decode("latin-1") for key, value in response.headers if key.lower() == name), None)


def retry_after_of(response: httpcore.Response) -> int | None:
    """Return a response's `Retry-After` in milliseconds from now, if any."""
    text = (header(response, b"retry-after") or "").strip()
    if text.isascii() and text.isdigit():
        return int(text.lstrip("0")[:_MAX_RETRY_AFTER_DIGITS] or "0") * 1000
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError, OverflowError):  # the last for a year or zone with too many digits
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(round((aware - datetime.now(UTC)).total_seconds() * 1000), 0)


def describe(error: Exception) -> str:
    """Describe an error in limited length."""
    # It may quote untrusted text of any length.
    return f"{type(error).__name__}: {error}".rstrip(": ")[:_MAX_ERROR_CHARACTERS]
