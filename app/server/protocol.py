"""uvicorn's HTTP/1.1 protocol, with the limits that its options lack."""

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
from app.server.head import Refused, head_bytes, host_and_path, write_head
from app.server.limits import ConnectionLimits
from app.server.transport import AnswerTransport

Refuse = Callable[[int, str, tuple[str, int] | None], Response]
"""Makes the answer to a refused request, from status, detail and the client's address."""

_TCP_USER_TIMEOUT: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)


class _Pipelined(Exception):
    """A request began before the last one was answered."""


@final
class LimitedProtocol(HttpToolsProtocol):
    """One client's connection. Sealed: it relies on internals of the versions in `app.server.versions`.

    Requests are not pipelined. One that begins before the last one is answered is dropped, and the connection closes
    after that answer, so the client sends it again (RFC 9112, section 9.3.2). Reading goes on meanwhile, so that a
    client that leaves is noticed.
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
        self._is_receiving = False  # a request has begun that has not ended
        self._is_in_head = True
        self._is_discarding = False  # nothing is parsed any longer
        self._held = b""
        self._unparsed_bytes = 0  # since the parser last reported something; it buffers them, whatever they are
        self._body_bytes = 0
        self.discarded_bytes = 0
        self._waiting_since = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        self._answers = AnswerTransport(transport, self.loop, self._lingers)
        super().connection_made(cast("asyncio.Transport", self._answers))
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
        """Report to the application that the client has left."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._stop_timer()

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, or discard it."""
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
        except (httptools.HttpParserError, Refused) as error:
            self._is_discarding = True
            if self._is_answering and not self._is_receiving:
                self.cycle.keep_alive = False
            else:
                cause = error if isinstance(error, Refused) else error.__context__
                self._refuse(cause if isinstance(cause, Refused) else Refused(400, "This is not valid HTTP/1.1."))
        else:
            if self._timer is None and (self._is_receiving or not self._is_answering):
                self._start_timer()

    def _parse(self, data: bytes) -> None:
        """Feed the parser, ignoring offers to switch to another protocol.

        llhttp takes a request with such an offer as having no body and stops after its head; its body would become the
        next request. So a new parser gets the same request without its header `Upgrade`.
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

    # --- called by the parser; what these raise becomes the context of its HttpParserError

    def on_message_begin(self) -> None:
        """Begin a request, if the last one is answered."""
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
                raise Refused(400, "The target of a request is a path.")
            return  # `_parse` parses it again
        if len(self.url) > limits.url_bytes or len(self.headers) > limits.headers:
            raise self._too_large()
        # Counted only if it may be too large, as head and body may have arrived together.
        if self._unparsed_bytes > limits.head_bytes and head_bytes(self.url, self.headers) > limits.head_bytes:
            raise self._too_large()
        hosts = [name for name, _ in self.headers].count(b"host")
        if hosts != 1 and (hosts or parser.get_http_version() != "1.0"):
            raise Refused(400, "A request has exactly one Host header.")
        if not self.url.startswith(b"/"):
            # The host in an absolute target overrides the header (RFC 9112, section 3.2.2).
            host, self.url = host_and_path(self.url)
            self.headers[:] = [*((name, value) for name, value in self.headers if name != b"host"), (b"host", host)]
        super().on_headers_complete()
        # The parser reports trailers as headers. They must not get among those just checked.
        self.headers = []
        self._is_in_head = False
        self._unparsed_bytes = 0

    def on_body(self, body: bytes) -> None:
        """Give a part of the body to the application; after the answer, discard it."""
        self._unparsed_bytes = 0
        self._body_bytes += len(body)
        if self._is_answering:
            super().on_body(body)
        else:
            self._discard(len(body))

    def on_message_complete(self) -> None:
        """End a request; its answer may still be under way."""
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
        """Drop what the application left of the body, and go on to the next request."""
        self._answers.flush()
        self.cycle.body.clear()
        super().on_response_complete()
        held, self._held = self._held, b""
        if held and not self.transport.is_closing():
            self.data_received(held)

    # --- the end of a connection

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _is_sent(self) -> bool:
        """Whether the client has the whole answer, although the application has not finished: it may ask again."""
        cycle = self.cycle
        return cycle.response_started and cycle.chunked_encoding is False and cycle.expected_content_length == 0

    def _too_large(self) -> Refused:
        limits = self._limits
        if self._is_in_head and len(self.url) > limits.url_bytes:
            return Refused(414, f"Path and query may have at most {limits.url_bytes} bytes.")
        return Refused(431, f"There may be at most {limits.headers} headers, of {limits.head_bytes} bytes together.")

    def _refuse(self, refused: Refused) -> None:
        """Answer in place of the application, and close."""
        self._is_discarding = True
        is_answered = self.transport.is_closing()
        if not self._is_in_head:
            is_answered = is_answered or self.cycle.response_started
            self.cycle.disconnected = True
            self.cycle.body.clear()
            self.cycle.message_event.set()
        if not is_answered:
            # In a new context, as uvloop has one for all connections.
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
        """Whether the client may still be sending, when the connection is to be closed."""
        self.flow.resume_reading()
        if self._is_discarding:
            self._start_timer()
        return self._is_discarding or (self._is_receiving and not self._is_in_head)

    # --- time

    def _start_timer(self) -> None:
        self._stop_timer()
        self._waiting_since = self.loop.time()
        self._schedule()

    def _schedule(self) -> None:
        # In a new context: what is logged then does not belong to the request that is current now.
        self._timer = self.loop.call_later(self._limits.tick_seconds, self._check_time, context=Context())

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check_time(self) -> None:
        """End the connection if the client takes too long."""
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
            self._refuse(Refused(408, "The request did not arrive in time."))
        else:
            self.transport.close()
