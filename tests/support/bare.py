"""The HTTP server on a thread, in front of an application of the test's own."""

import asyncio
import socket
import threading
from functools import partial
from typing import Any, Self, cast

import uvicorn
from starlette.types import ASGIApp

from app.http.connection import Connection
from app.http.lane import Lane
from app.http.limits import ConnectionLimits
from app.http.watch import Watch
from tests.support.waiting import until


class BareServer:
    """The HTTP server on a thread; `keep_alive` in seconds."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: ConnectionLimits | None = None,
        keep_alive: float = 75,
        lane: Lane | None = None,
    ) -> None:
        limits = limits or ConnectionLimits()
        connection = partial(Connection, limits=limits, watch=Watch(limits.look_seconds), busy=app, lane=lane)
        listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = listener.getsockname()[1]
        config = uvicorn.Config(
            app,
            interface="asgi3",
            http=cast("type[Connection]", connection),
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            lifespan="off",
            timeout_keep_alive=cast("int", keep_alive),
            timeout_graceful_shutdown=10,
        )
        self._server = uvicorn.Server(config)
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
        """The connection of the client with this address, None if it is gone."""
        return next((one for one in self.connections if one.client == client), None)

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        return self._server.server_state.tasks

    def begin_to_stop(self) -> None:
        """Do what a signal does."""
        self._server.should_exit = True
