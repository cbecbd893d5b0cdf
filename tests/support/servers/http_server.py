"""The HTTP server on a thread, serving a test's application."""

import asyncio
import socket
import threading
from typing import Any, Self

from starlette.types import ASGIApp

from app.server.limits import ConnectionLimits
from app.server.protocol import Refuse
from app.server.server import Server
from app.web.refusals import refuse
from tests.support.waiting import until


class HttpServer:
    """The HTTP server on a thread; `keep_alive` is in seconds."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: ConnectionLimits | None = None,
        keep_alive: float = 75,
        refuse: Refuse = refuse,
    ) -> None:
        self._server = Server(
            app,
            limits=limits or ConnectionLimits(),
            refuse=refuse,
            overloaded=app,
            on_stop=lambda: None,
            keep_alive_seconds=keep_alive,
        )
        listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]}, daemon=True)
        self._thread.start()
        until(lambda: self._server.started, what="the start")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.begin_to_stop()
        self._thread.join(20)
        assert not self._thread.is_alive(), "the server did not stop"
        assert not self.tasks

    @property
    def connections(self) -> list[Any]:
        return list(self._server.server_state.connections)

    def connection(self, client: tuple[str, int]) -> Any:
        """Return a client's connection, or None if it is closed."""
        return next((one for one in self.connections if one.client == client), None)

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        return self._server.server_state.tasks

    def begin_to_stop(self) -> None:
        """Begin to stop, as a signal would."""
        self._server.should_exit = True
