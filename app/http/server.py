"""The HTTP server: uvicorn, with what open streams need of it."""

import socket
from collections.abc import Callable

import uvicorn


class Server(uvicorn.Server):
    """Calls `on_stop` when it is told to stop, before it waits for open connections, which streams else never close."""

    def __init__(self, config: uvicorn.Config, on_stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_stop = on_stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish what is under way, then stop."""
        self._on_stop()
        await super().shutdown(sockets)
