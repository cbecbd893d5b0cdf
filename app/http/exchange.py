"""One request and its answer: what stands between a connection and the application that it calls (ASGI 3)."""

import asyncio
from collections.abc import Iterable
from typing import Protocol

import structlog
from starlette.types import ASGIApp, Message, Scope
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from app.http.lane import Answer

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_BODYLESS = frozenset({204, 304})
_FRAMING = frozenset({b"content-length", b"transfer-encoding", b"connection"})
_CLOSE = (b"connection", b": ", b"close", b"\r\n")
_CHUNKED = (b"transfer-encoding", b": ", b"chunked", b"\r\n")
_DISCONNECT: Message = {"type": "http.disconnect"}
_log = structlog.get_logger(__name__)


class Answerer(Protocol):
    """What an exchange needs of its connection."""

    transport: asyncio.Transport
    flow: FlowControl

    @property
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of every answer."""
        ...

    def read_on(self) -> None:
        """Read on, as the application waits for what comes."""
        ...

    def on_response_complete(self) -> None:
        """Go on to the next request."""
        ...

    def end(self) -> None:
        """Close the connection, as this answer was its last."""
        ...


class Exchange:
    """Takes the place of uvicorn's `RequestResponseCycle`, with what its connection and server see of one.

    It does the same for less than half: the head of an answer whose length is known goes out together with the
    body's first part, what most requests don't need (an event to wait for their body) is made when it is, and headers
    are looked at once. That matters where a request is answered in some ten microseconds.
    """

    __slots__ = (
        "_chunked",
        "_connection",
        "_head",
        "_is_head",
        "_knows_chunks",
        "_left",
        "_news",
        "_news_event",
        "body",
        "disconnected",
        "expects_continue",
        "keep_alive",
        "more_body",
        "response_complete",
        "response_started",
    )

    def __init__(
        self, connection: Answerer, *, is_head: bool, knows_chunks: bool, keep_alive: bool, expects_continue: bool
    ) -> None:
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        self.body: bytes | bytearray = b""
        """What came of the request's body since the application last received."""
        self.more_body = True
        self.disconnected = False
        self.response_started = False
        self.response_complete = False
        self._connection = connection
        self._is_head = is_head
        self._knows_chunks = knows_chunks
        self._head = b""
        """The head of the answer while it waits for the body's first part."""
        self._left: int | None = 0
        """How much of the announced body is still to be sent; None if it goes on until the end of the connection."""
        self._chunked = False
        self._news = False
        """Whether something has happened that `receive` is to tell."""
        self._news_event: asyncio.Event | None = None

    def leave(self) -> None:
        """Note that the client is gone."""
        self.disconnected = True
        self.expects_continue = False
        self._tell()

    def end_body(self) -> None:
        """Note that the request has come to its end."""
        self.more_body = False
        self._tell()

    def add_body(self, part: bytes) -> None:
        """Take a part of the request's body."""
        if not self.body:
            self.body = part
        else:
            if isinstance(self.body, bytes):
                self.body = bytearray(self.body)
            self.body += part
        self._tell()

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Let the application answer."""
        try:
            await app(scope, self.receive, self.send)
            if not self.response_complete and not self.disconnected:
                _log.error("answer_incomplete", path=scope["path"])
                self._connection.transport.close()
        except Exception:  # noqa: BLE001 -- the application has a net of its own; what gets here fell through it
            _log.exception("application_failed", path=scope["path"])
            self._connection.transport.close()
        except asyncio.CancelledError:
            # The server stops and has waited long enough.
            self._connection.transport.close()
            raise

    def answer(self, answer: Answer) -> None:
        """Send a whole answer, unless the client has left."""
        if not self.disconnected:
            status, headers, body = answer
            self._start(status, headers)
            self._go_on(body, is_last=True)

    async def receive(self) -> Message:
        """Wait for the next part of the request's body, or for the client to leave or to have its answer."""
        if self.expects_continue and not self._connection.transport.is_closing():
            self._connection.transport.write(_CONTINUE)
            self.expects_continue = False
        if not self.disconnected and not self.response_complete:
            self._connection.read_on()
            if not self._news:
                self._news_event = self._news_event or asyncio.Event()
                await self._news_event.wait()
            self._news = False
            if self._news_event is not None:
                self._news_event.clear()
        if self.disconnected or self.response_complete:
            return _DISCONNECT
        body, self.body = self.body, b""
        return {"type": "http.request", "body": bytes(body), "more_body": self.more_body}

    async def send(self, message: Message) -> None:
        """Send a part of the answer, once there is room for it; nothing more to a client that has left."""
        flow = self._connection.flow
        if flow.write_paused and not self.disconnected:
            await flow.drain()
        if self.disconnected:
            return
        if message["type"] != ("http.response.body" if self.response_started else "http.response.start"):
            raise RuntimeError(f"{message['type']} is out of turn")
        if not self.response_started:
            self._start(message["status"], message.get("headers", ()))
        elif self.response_complete:
            raise RuntimeError("the answer is already complete")
        else:
            self._go_on(message.get("body", b""), is_last=not message.get("more_body", False))

    def _tell(self) -> None:
        self._news = True
        if self._news_event is not None:
            self._news_event.set()

    def _start(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        stated: dict[bytes, bytes] = {}
        pieces = [STATUS_LINE[status]]
        for name, value in (*self._connection.default_headers, *headers):
            pieces += (name, b": ", value, b"\r\n")
            if name in _FRAMING:
                stated[name] = value
        if b"transfer-encoding" in stated:
            raise RuntimeError("how an answer is transferred is ours to say")
        if b"close" in stated.get(b"connection", b"").lower():
            self.keep_alive = False
        elif not self.keep_alive:
            pieces += _CLOSE
        is_bodyless = self._is_head or status in _BODYLESS
        length = 0 if is_bodyless else _length(stated.get(b"content-length"))
        self._chunked = length is None and self._knows_chunks
        if self._chunked:
            pieces += _CHUNKED
        pieces.append(b"\r\n")
        head = b"".join(pieces)
        # The status line and each header come in four pieces (the first in one), so that every line end is one of ours.
        lines = len(pieces) // 4 + 2
        if head.count(b"\n") != lines or head.count(b"\r") != lines:
            raise RuntimeError("a header has more than one line")
        self._left = 0 if self._chunked else length
        self.response_started = True
        self.expects_continue = False
        if length is None:
            # Nobody knows when the first part comes; that there will be some is news already.
            self._connection.transport.write(head)
        else:
            self._head = head

    def _go_on(self, body: bytes, *, is_last: bool) -> None:
        if self._is_head:
            body = b""
        elif self._chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + (b"0\r\n\r\n" if is_last else b"")
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0:
                raise RuntimeError("the answer is longer than announced")
        if self._head:
            body, self._head = self._head + body, b""
        if body:
            self._connection.transport.write(body)
        if is_last:
            if self._left:
                raise RuntimeError("the answer is shorter than announced")
            self.response_complete = True
            self._tell()
            if not self.keep_alive:
                self._connection.end()
            self._connection.on_response_complete()


def _length(stated: bytes | None) -> int | None:
    return None if stated is None else int(stated)
