"""One client's connection: HTTP/1.1 of uvicorn, with limits to what strangers may send and how slowly.

What is refused here never reaches the application; the answer is a problem like all others, and the connection ends.
"""

import asyncio
import json
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import httptools
import structlog
import uuid_utils
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.api.event_stream import ABORT
from app.api.problems import MEDIA_TYPE, problem_body
from app.errors import GatewayError, HeadersTooLarge, MalformedRequest, RequestTimeout, UriTooLong

_ABSOLUTE_SCHEMES = frozenset({b"http", b"https"})
# Linux has it; elsewhere who reads nothing may keep a connection.
_UNREAD_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
_log = structlog.get_logger("app.request")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What one connection may take, and how many there may be.

    Beyond `most` connections requests are answered 503, beyond `spare` more not at all. The head of a request (its
    line and headers) has `head_seconds` to arrive, all of it `body_seconds` and a second for each `body_pace` bytes.
    `unread_bytes` of a body may follow its answer: most clients read no answer before they have sent everything, and
    one that is cut off while it sends loses the answer. The refusal of a request has `farewell_seconds` to be read.
    A client that takes nothing of what is sent to it for `unread_seconds` is dropped (on Linux, by the system).
    All times are looked at every `look_seconds`.
    """

    most: int = 16_384
    spare: int = 256
    url_bytes: int = 8 * 1024
    head_bytes: int = 32 * 1024
    headers: int = 100
    head_seconds: float = 15.0
    body_seconds: float = 30.0
    body_pace: int = 4 * 1024
    unread_bytes: int = 64 * 1024 * 1024
    farewell_seconds: float = 2.0
    unread_seconds: float = 60.0
    look_seconds: float = 1.0


class Watch:
    """Looks now and then at the connections on which a request is on its way.

    Requests that come in one piece, as nearly all do, never get here: a timer for each would cost every one of them.
    """

    def __init__(self, look_seconds: float) -> None:
        self._look_seconds = look_seconds
        self._connections: set[Connection] = set()
        self._is_looking = False

    def add(self, connection: "Connection") -> None:
        """Look at a connection from now on."""
        self._connections.add(connection)
        if not self._is_looking:
            self._is_looking = True
            connection.loop.call_later(self._look_seconds, self._look, connection.loop)

    def discard(self, connection: "Connection") -> None:
        """Look at it no more."""
        self._connections.discard(connection)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._connections):
            connection.look(now)
        self._is_looking = bool(self._connections)
        if self._is_looking:
            loop.call_later(self._look_seconds, self._look, loop)


class Connection(HttpToolsProtocol):
    """HTTP/1.1 within limits. `busy` answers the requests of connections that are too many.

    An application can also drop a connection together with what waits to be sent on it; the server itself only
    closes connections, which waits for a client that reads nothing as long as it likes.
    """

    def __init__(
        self, *args: Any, limits: ConnectionLimits, watch: Watch, busy: Callable[..., Awaitable[None]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.url = b""
        self._limits = limits
        self._watch = watch
        self._busy = busy
        self._is_receiving = False
        """Whether a request has begun that has not ended."""
        self._in_head = True
        """Whether what comes next is a head, or the rest of one."""
        self._unparsed = 0
        """Bytes that came since the parser last told of something whole; they are kept, whatever they are."""
        self._body_bytes = 0
        self._hosts = 0
        self._unread = 0
        self._since = 0.0
        self._is_watched = False
        self._is_refused = False
        self._is_ending = False
        """Whether all is answered, and the connection ends with what still arrives."""
        self._earlier: deque[RequestResponseCycle] = deque()
        """Requests that were not answered when the next came; the server remembers only the last."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin: a first request is due."""
        super().connection_made(transport)
        excess = len(self.connections) - self._limits.most
        if excess > self._limits.spare:
            transport.abort()
            return
        if excess > 0:
            self.app = self._busy
        if _UNREAD_TIMEOUT is not None:
            wire = transport.get_extra_info("socket")
            wire.setsockopt(socket.IPPROTO_TCP, _UNREAD_TIMEOUT, round(self._limits.unread_seconds * 1000))
        self._begin_watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and tell all whose requests are still being answered."""
        self._end_watch()
        for cycle in self._earlier:
            cycle.disconnected = True
            cycle.message_event.set()
        self._earlier.clear()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if self._is_refused:
            return
        self._unset_keepalive_if_required()
        self._unparsed += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the request was answered as if it had not offered to speak something else
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, GatewayError) else MalformedRequest("This is not valid HTTP/1.1."))
            return
        if self._is_receiving or self.cycle is None or self.cycle.response_complete:
            if self._unparsed > self._limits.head_bytes:
                self._refuse(self._too_large())
            elif not self._is_watched:
                self._begin_watch()
        else:
            self._unparsed = 0

    # --- what the parser tells

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._is_receiving = True
        self._body_bytes = self._hosts = 0
        self.scope["extensions"] = {ABORT: {ABORT: self.transport.abort}}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Check the head, and start the application."""
        limits = self._limits
        if len(self.url) > limits.url_bytes or len(self.headers) > limits.headers:
            raise self._too_large()
        # What came in one piece may be head, body and the next request: counted only if it could be too large.
        if self._unparsed > limits.head_bytes and self._head_size() > limits.head_bytes:
            raise self._too_large()
        if self._hosts != 1 and (self._hosts or self.parser.get_http_version() == "1.1"):
            raise MalformedRequest("A request has exactly one Host header.")
        if not self.url.startswith(b"/"):
            self._take_absolute_target()
        if self.cycle is not None and not self.cycle.response_complete:
            while self._earlier and self._earlier[0].response_complete:
                self._earlier.popleft()
            self._earlier.append(self.cycle)
        super().on_headers_complete()
        if not self.cycle.keep_alive:
            self.cycle.transport = cast("asyncio.Transport", _LastAnswer(self))  # has what a cycle uses of one
        self._in_head = False
        self._unparsed = 0
        # The parser takes what follows a body for headers; it must not get among those that were checked.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._unparsed = 0
        self._body_bytes += len(body)
        if self.cycle.response_complete:
            self._unread += len(body)
            if self._unread > self._limits.unread_bytes:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request; its answer may still be under way."""
        super().on_message_complete()
        self._is_receiving = False
        self._in_head = True
        if self._is_watched:
            self._end_watch()
        if self._is_ending:
            self.transport.close()

    def end(self) -> None:
        """Close the connection, once its request has arrived: a client that is cut off while it sends reads no answer."""
        if self._is_receiving:
            self._is_ending = True
            self.transport.write_eof()
        else:
            self.transport.close()

    # --- limits

    def look(self, now: float) -> None:
        """End the connection if its request has been on its way for too long."""
        limits = self._limits
        if self._is_refused:
            if now - self._since > limits.farewell_seconds:
                self.transport.abort()
            return
        if self.flow.read_paused:
            self._since += limits.look_seconds  # it is us for whom it waits
            return
        seconds = limits.head_seconds if self._in_head else limits.body_seconds + self._body_bytes / limits.body_pace
        if now - self._since <= seconds:
            return
        if self._is_receiving:
            self._refuse(RequestTimeout("The request did not arrive in time."))
        else:
            self.transport.close()

    def _begin_watch(self) -> None:
        self._since = self.loop.time()
        self._is_watched = True
        self._watch.add(self)

    def _end_watch(self) -> None:
        self._is_watched = False
        self._watch.discard(self)

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + len(b": \r\n") for name, value in self.headers)

    def _too_large(self) -> GatewayError:
        limits = self._limits
        if self._in_head and len(self.url) > limits.url_bytes:
            return UriTooLong(f"Path and query may have at most {limits.url_bytes} bytes.")
        return HeadersTooLarge(f"There may be at most {limits.headers} headers, of {limits.head_bytes} bytes together.")

    def _take_absolute_target(self) -> None:
        """Read a target that was written for a proxy: the host in it counts, not that of the header (RFC 9112, 3.2.2)."""
        target = httptools.parse_url(self.url)
        if target.schema not in _ABSOLUTE_SCHEMES or not target.host or target.userinfo:
            raise MalformedRequest("The target of a request is a path.")
        host = b"[%b]" % target.host if b":" in target.host else target.host
        port = b":%d" % target.port if target.port else b""
        self.headers[:] = [(n, v) for n, v in self.headers if n != b"host"]
        self.headers.append((b"host", host + port))
        self.url = (target.path or b"/") + (b"?" + target.query if target.query else b"")

    def _refuse(self, error: GatewayError) -> None:
        """Answer an error instead of the application, and end the connection once the client can have read it."""
        cycle = self.cycle
        address = f"{self.client[0]}:{self.client[1]}" if self.client else None
        _log.info("request_refused", status=error.status, code=error.code, client=address)
        self._is_refused = True
        self._begin_watch()
        if self._in_head and cycle is not None and not cycle.response_complete:
            # An earlier request is still being answered, perhaps for long. After that it is over.
            cycle.keep_alive = False
            self._end_watch()
            return
        if not self._in_head:
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started or self.pipeline:
                self.transport.close()
                return
        self.transport.write(_answer(error))
        self.transport.write_eof()


class _LastAnswer:
    """What the last answer of a connection is written to, in place of its transport."""

    def __init__(self, connection: Connection) -> None:
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing
        self.close = connection.end


def _answer(error: GatewayError) -> bytes:
    request_id = uuid_utils.uuid4().hex
    body = problem_body(error.status, error.code, error.title, error.detail) | {"request_id": request_id}
    content = json.dumps(body, separators=(",", ":")).encode()
    headers = {
        "content-type": MEDIA_TYPE,
        "content-length": len(content),
        "x-request-id": request_id,
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
        "connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return STATUS_LINE[error.status] + lines.encode() + b"\r\n" + content
