"""The HTTP server: uvicorn, with what open streams need of it."""

import socket
from collections.abc import Callable

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.api.event_stream import ABORT


class Protocol(HttpToolsProtocol):
    """HTTP/1.1, in which an application can also drop a connection together with what waits to be sent on it.

    The server itself only closes connections, which waits for a client that reads nothing as long as it likes.
    """

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = {ABORT: {ABORT: self.transport.abort}}


class Server(uvicorn.Server):
    """Calls `on_stop` when it is told to stop, before it waits for open connections, which streams else never close."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is under way, then stop."""
        self._on_stop()
        await super().shutdown(sockets)
