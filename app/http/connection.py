"""One client's connection: uvicorn's HTTP/1.1, with limits to what strangers may send and how slowly.

What is refused here never reaches the application; the answer is a problem like all others, and the connection ends.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Coroutine
from typing import Any
from urllib.parse import unquote

import httptools
import structlog
import uuid_utils
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.event_stream import ABORT
from app.errors import GatewayError, HeadersTooLarge, MalformedRequest, RequestTimeout, UriTooLong
from app.http.exchange import Exchange
from app.http.lane import Headers, Lane
from app.http.limits import ConnectionLimits
from app.http.refusal import refusal
from app.http.watch import Watch

_ABSOLUTE_SCHEMES = frozenset({b"http", b"https"})
# Linux has it; elsewhere who reads nothing may keep a connection.
_UNREAD_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
# Enough for any body that is small.
_LENGTH_DIGITS = 9
_log = structlog.get_logger("app.request")


class Connection(HttpToolsProtocol):
    """HTTP/1.1 within limits. `busy` answers the requests of connections that are too many.

    An application can also drop a connection together with what waits to be sent on it; the server itself only
    closes connections, which waits for a client that reads nothing as long as it likes.
    """

    cycle: Exchange  # type: ignore[assignment]  # has what the server uses of a cycle
    """The newest request; None before the first."""

    def __init__(
        self,
        *args: Any,
        limits: ConnectionLimits,
        watch: Watch,
        busy: ASGIApp,
        lane: Lane | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.url = b""
        self._limits = limits
        self._watch = watch
        self._busy = busy
        self._lane = lane
        self._for_lane: tuple[str, Headers] | None = None
        """Whom the request that is arriving is for, and its headers, if it takes the lane."""
        self._is_receiving = False
        """Whether a request has begun that has not ended."""
        self._in_head = True
        """Whether what comes next is a head, or the rest of one."""
        self._unparsed = 0
        """Bytes that came since the parser last told of something whole; they are kept, whatever they are."""
        self._body_bytes = 0
        self._hosts = 0
        self._announced = b""
        """How long the body is said to be."""
        self._unread = 0
        self._since = 0.0
        self._is_watched = False
        self._is_refused = False
        self._is_ending = False
        """Whether the last answer is given, and the connection ends with the request that is still arriving."""
        self._waiting: deque[tuple[Exchange, Scope]] = deque()
        """Requests that came before those before them were answered; the first of them is next."""
        self._current: Exchange | None = None
        """The request that is being answered, or was the last."""
        self._answered_at = 0.0
        self._scope_of_all: Scope = {}
        """What the scopes of all requests on this connection have in common."""

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of every answer: its date."""
        return self.server_state.default_headers

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin: a first request is due."""
        super().connection_made(transport)
        excess = len(self.connections) - self._limits.most
        if excess > self._limits.spare:
            transport.abort()
            return
        if excess > 0:
            self.app, self._lane = self._busy, None
        self._scope_of_all = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "extensions": {ABORT: {ABORT: transport.abort}},
        }
        if _UNREAD_TIMEOUT is not None:
            wire = transport.get_extra_info("socket")
            wire.setsockopt(socket.IPPROTO_TCP, _UNREAD_TIMEOUT, round(self._limits.unread_seconds * 1000))
        self._begin_watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """End, and tell all whose requests are still being answered."""
        self.connections.discard(self)
        self._end_watch()
        self._unset_keepalive_if_required()
        if self._current is not None:
            self._current.leave()
        self._waiting.clear()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        self.parser = None  # type: ignore[assignment]  # they refer to each other

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        if self._is_refused:
            return
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
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._is_receiving = True
        self._body_bytes = self._hosts = 0
        self._announced = b""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"content-length":
            self._announced = value
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Check the head, and start the application."""
        if self._is_ending:
            return
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
        # The parser takes what follows a body for headers; it must not get among those that were checked.
        headers, self.headers = self.headers, []
        method, version = self.parser.get_method(), self.parser.get_http_version()
        is_next = self._current is None or self._current.response_complete
        addressee = None
        if self._lane is not None and is_next and method == b"POST" and self._has_small_body():
            addressee = self._lane.recognize(self.url)
        scope = {} if addressee else self._scope(headers)
        # From here on nothing can be wrong with the head: a request that is refused leaves the newest one as it was.
        self.cycle = exchange = Exchange(
            self,
            is_head=method == b"HEAD",
            knows_chunks=version != "1.0",
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            expects_continue=self.expect_100_continue,
        )
        if addressee:
            self._for_lane = (addressee, headers)
            self._current = exchange
        elif is_next:
            self._run(exchange, scope)
        else:
            self._waiting.append((exchange, scope))
            self.flow.pause_reading()
        self._in_head = False
        self._unparsed = 0

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._unparsed = 0
        self._body_bytes += len(body)
        exchange = self.cycle
        # A request behind the last answer is read as what follows an answer is, and nobody takes it.
        if exchange.response_complete or self._is_ending:
            self._unread += len(body)
            if self._unread > self._limits.unread_bytes:
                self.transport.close()
            return
        exchange.add_body(body)
        if len(exchange.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        """End a request; its answer may still be under way."""
        if self._lane is not None and self._for_lane is not None:
            self._start_task(self._take_lane(self._lane, self.cycle, *self._for_lane))
            self._for_lane = None
        self.cycle.end_body()
        self._is_receiving = False
        self._in_head = True
        if self._is_watched:
            self._end_watch()
        if self._is_ending:
            self.transport.close()

    # --- what exchanges tell

    def on_response_complete(self) -> None:
        """Go on to the next request, or wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self._waiting:
            self._run(*self._waiting.popleft())
            if not self._waiting:
                self.flow.resume_reading()
            return
        self.flow.resume_reading()
        self._answered_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_whether_idle()

    def read_on(self) -> None:
        """Read on for an application that waits to be told more, unless so many requests wait that they would pile up."""
        if len(self._waiting) <= self._limits.waiting:
            self.flow.resume_reading()

    def _run(self, exchange: Exchange, scope: Scope) -> None:
        self._current = exchange
        self._start_task(exchange.run(self.app, scope))

    async def _take_lane(self, lane: Lane, exchange: Exchange, addressee: str, headers: Headers) -> None:
        try:
            answer = await lane.answer(addressee, headers, bytes(exchange.body), self.client)
            if self.flow.write_paused:
                await self.flow.drain()  # a client that reads no answers gets no more of them
            exchange.answer(answer)
        except BaseException:
            # A fault, or the server stops and has waited long enough: there will be no answer.
            self.transport.close()
            raise

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _look_whether_idle(self) -> None:
        """Close the connection if nothing was asked for long; one timer looks at many requests, as each costs."""
        is_idle = not self._is_receiving and self.cycle.response_complete
        left = self._answered_at + self.timeout_keep_alive - self.loop.time() if is_idle else self.timeout_keep_alive
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self._look_whether_idle)
        else:
            self.transport.close()

    def end(self) -> None:
        """Close the connection, once its request has arrived: a client that is cut off while it sends reads no answer.

        What is asked after the last answer is not done, as nobody would hear of it.
        """
        self._is_ending = True
        self._waiting.clear()
        if self._is_receiving:
            self.transport.write_eof()
            self._begin_watch()
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

    def _has_small_body(self) -> bool:
        """Whether a body is announced that may be waited for whole, without a word before it."""
        # What is announced by more digits, zeros in front of them, goes the usual way.
        is_short = len(self._announced) <= _LENGTH_DIGITS and self._announced.isdigit()
        return is_short and int(self._announced) <= HIGH_WATER_LIMIT and not self.expect_100_continue

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + len(b": \r\n") for name, value in self.headers)

    def _too_large(self) -> GatewayError:
        limits = self._limits
        if self._in_head and len(self.url) > limits.url_bytes:
            return UriTooLong(f"Path and query may have at most {limits.url_bytes} bytes.")
        return HeadersTooLarge(f"There may be at most {limits.headers} headers, of {limits.head_bytes} bytes together.")

    def _scope(self, headers: Headers) -> Scope:
        target = httptools.parse_url(self.url)
        path = target.path.decode("ascii")
        return {
            **self._scope_of_all,
            "http_version": self.parser.get_http_version(),
            "method": self.parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": target.path,
            "query_string": target.query or b"",
            "headers": headers,
            "state": self.app_state.copy(),
        }

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
        if self._is_ending:
            self.transport.close()
            return
        cycle = self.cycle
        request_id = uuid_utils.uuid4().hex
        address = f"{self.client[0]}:{self.client[1]}" if self.client else None
        _log.info("request_refused", status=error.status, code=error.code, client=address, request_id=request_id)
        self._is_refused = True
        self._begin_watch()
        if self._in_head and cycle is not None and not cycle.response_complete:
            # An earlier request is still being answered, perhaps for long. After that it is over.
            cycle.keep_alive = False
            self._end_watch()
            return
        if not self._in_head:
            cycle.leave()
            if cycle.response_started or self._waiting:
                self.transport.close()
                return
        self.transport.write(refusal(error, request_id))
        self.transport.write_eof()
