"""uvicorn's HTTP/1.1 protocol, with additional limits."""

import asyncio
import socket
from collections.abc import Callable
from contextvars import Context
from typing import Any, cast, final

import httptools
from starlette.responses import Response
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.server.extensions import ABORT
from app.server.head import RequestRefused, head_bytes, host_and_path, write_head
from app.server.limits import ConnectionLimits
from app.server.transport import ResponseTransport

Refuse = Callable[[int, str, tuple[str, int] | None], Response]
"""Creates the response to a refused request from status, detail and client address."""

_TCP_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)


class _Pipelined(Exception):
    """A request began before the response to the previous one."""


@final
class LimitedProtocol(HttpToolsProtocol):
    """A client connection with limits on time and size.

    Relies on internals of the package versions in `app.server.versions`.

    Pipelining is not supported. A request that begins before the previous response is complete is dropped, and the
    connection closes after that response, so the client can retry it (RFC 9112, section 9.3.2). Reading continues
    until then, to detect a disconnect.
    """

    def __init__(
        self, *args: Any, limits: ConnectionLimits, refuse: Refuse, overloaded: ASGIApp, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.url = b""
        self._limits = limits
        self._refusal = refuse
        self._overloaded = overloaded
        self._extensions: dict[str, dict[str, Any]] = {}
        self._is_receiving = False  # a request has begun and not ended
        self._is_in_head = True
        self._is_discarding = False  # input is no longer parsed
        self._held = b""
        self._unparsed_bytes = 0  # buffered by the parser since its last callback
        self._body_bytes = 0
        self.discarded_bytes = 0
        self._waiting_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        self._responses = ResponseTransport(transport, self.loop, self._lingers)
        super().connection_made(cast("asyncio.Transport", self._responses))
        excess = len(self.connections) - self._limits.connections
        if excess > self._limits.spare_connections:
            transport.abort()
            return
        if excess > 0:
            self.app = self._overloaded
        if _TCP_USER_TIMEOUT is not None:
            milliseconds = round(self._limits.unread_seconds * 1000)
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, milliseconds)
        self._extensions = {ABORT: {"abort": transport.abort}}
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Notify the application that the client has disconnected."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._stop_timer()

    def data_received(self, data: bytes) -> None:
        """Parse or discard received data."""
        if self._is_discarding:
            self._discard(len(data))
            return
        if self._is_answering and not self._is_receiving and self._is_sent:
            self._held += data
            self.flow.pause_reading()
            return
        self._unset_keepalive_if_required()
        self._unparsed_bytes += len(data)
        try:
            self._parse(data)
            if self._unparsed_bytes > self._limits.head_bytes:
                raise self._too_large()
        except (httptools.HttpParserError, RequestRefused) as error:
            self._is_discarding = True
            if self._is_answering and not self._is_receiving:
                self.cycle.keep_alive = False
            else:
                cause = error if isinstance(error, RequestRefused) else error.__context__
                self._refuse(
                    cause
                    if isinstance(cause, RequestRefused)
                    else RequestRefused(400, "The request is not valid HTTP/1.1.")
                )
        else:
            if self._timer is None and (self._is_receiving or not self._is_answering):
                self._start_timer()

    def _parse(self, data: bytes) -> None:
        """Feed the parser, ignoring offers to upgrade the protocol.

        llhttp assumes that a request with an `Upgrade` header has no body and stops after the head. The body would then
        be parsed as the next request (request smuggling), so a new parser gets the request again without the header.
        """
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                parser = self.parser
                headers = [header for header in self.headers if header[0] != b"upgrade"]
                head = write_head(parser.get_method(), self.url, parser.get_http_version(), headers)
                data = head + data[offer.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            else:
                return

    # --- called by the parser; if they raise, the error is the context of its HttpParserError

    def on_message_begin(self) -> None:
        """Begin a request unless the previous response is incomplete."""
        if self._is_answering or self.transport.is_closing():
            raise _Pipelined
        super().on_message_begin()
        self.scope["extensions"] = self._extensions  # type: ignore[typeddict-item]  # uvicorn's type lists its own
        self._is_receiving = True
        self._body_bytes = self.discarded_bytes = 0

    def on_headers_complete(self) -> None:
        """Check the head and start the application."""
        parser, limits = self.parser, self._limits
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise RequestRefused(400, "The request target must be a path.")
            return  # `_parse` parses it again
        if len(self.url) > limits.url_bytes or len(self.headers) > limits.headers:
            raise self._too_large()
        # `_unparsed_bytes` may include part of the body, so count exactly.
        if self._unparsed_bytes > limits.head_bytes and head_bytes(self.url, self.headers) > limits.head_bytes:
            raise self._too_large()
        hosts = [name for name, _ in self.headers].count(b"host")
        if hosts != 1 and (hosts or parser.get_http_version() != "1.0"):
            raise RequestRefused(400, "The request must have exactly one Host header.")
        if not self.url.startswith(b"/"):
            # The host in an absolute target overrides the header (RFC 9112, section 3.2.2).
            host, self.url = host_and_path(self.url)
            self.headers[:] = [*((name, value) for name, value in self.headers if name != b"host"), (b"host", host)]
        super().on_headers_complete()
        # The parser reports trailers as headers; keep them apart from those just checked.
        self.headers = []
        self._is_in_head = False
        self._unparsed_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Pass data to the application until the response is complete."""
        self._unparsed_bytes = 0
        self._body_bytes += len(body)
        if self._is_answering:
            super().on_body(body)
        else:
            self._discard(len(body))

    def on_message_complete(self) -> None:
        """End a request, whether or not its response is complete."""
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._is_receiving = False
        self._is_in_head = True
        self._unparsed_bytes = 0
        self._stop_timer()
        if self.transport.is_closing():
            self.transport.close()

    # --- called by uvicorn's cycle

    def on_response_complete(self) -> None:
        """Finish the response and process the next request."""
        self._responses.flush()
        self.cycle.body.clear()
        super().on_response_complete()
        held, self._held = self._held, b""
        if held and not self.transport.is_closing():
            self.data_received(held)

    # --- ending a connection

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_sent(self) -> bool:
        """Whether the response is sent but the application still runs.

        The client may then send the next request, which is not pipelining.
        """
        cycle = self.cycle
        return cycle.response_started and cycle.chunked_encoding is False and cycle.expected_content_length == 0

    def _too_large(self) -> RequestRefused:
        limits = self._limits
        if self._is_in_head and len(self.url) > limits.url_bytes:
            return RequestRefused(414, f"Path and query are limited to {limits.url_bytes} bytes.")
        return RequestRefused(431, f"Headers are limited to {limits.headers}, with {limits.head_bytes} bytes in total.")

    def _refuse(self, refused: RequestRefused) -> None:
        """Respond instead of the application and close the connection."""
        self._is_discarding = True
        is_answered = self.transport.is_closing()
        if not self._is_in_head:
            is_answered = is_answered or self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.body.clear()
            self.cycle.message_event.set()
        if not is_answered:
            # In a new context, because uvloop shares one among all connections.
            response = Context().run(self._refusal, refused.status, refused.detail, self.client)
            headers = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
            lines = b"".join(b"%b: %b\r\n" % header for header in headers)
            self.transport.write(STATUS_LINE[response.status_code] + lines + b"\r\n" + response.body)
        self.transport.close()

    def _discard(self, count: int) -> None:
        self.discarded_bytes += count
        if self.discarded_bytes > self._limits.discarded_bytes:
            self.transport.abort()

    def _lingers(self) -> bool:
        """Whether the client may still be sending."""
        self.flow.resume_reading()
        if self._is_discarding:
            self._start_timer()
        return self._is_discarding or (self._is_receiving and not self._is_in_head)

    # --- timeouts

    def _start_timer(self) -> None:
        self._stop_timer()
        self._waiting_since = self.loop.time()
        self._schedule()

    def _schedule(self) -> None:
        # In a new context, so that log lines don't get the id of the current request.
        self._timer = self.loop.call_later(self._limits.tick_seconds, self._check_time, context=Context())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_time(self) -> None:
        """End the connection if the client is too slow."""
        limits = self._limits
        if self.flow.read_paused:
            self._waiting_since += limits.tick_seconds  # the delay is ours
        if self._is_discarding:
            seconds = limits.linger_seconds
        elif self._is_in_head:
            seconds = limits.head_seconds
        else:
            seconds = limits.body_seconds + self._body_bytes / limits.body_bytes_per_second
        if self.loop.time() - self._waiting_since <= seconds:
            self._schedule()
        elif self.transport.is_closing():
            self.transport.abort()
        elif self._is_receiving:
            self._refuse(RequestRefused(408, "The request arrived too slowly."))
        else:
            self.transport.close()
