"""uvicorn's server, configured for this service."""

import socket
from collections.abc import Callable
from functools import partial
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from app.server.limits import ConnectionLimits
from app.server.protocol import LimitedProtocol, Refuse

# Longer than proxies and clients keep idle connections. Otherwise they could send a POST just as we close one.
_KEEP_ALIVE_SECONDS = 75
_GRACEFUL_SECONDS = 10


class Server(uvicorn.Server):
    """Serves an application. The caller sets up logging and sockets.

    `refuse` creates responses to requests that don't reach the application. `overloaded` serves connections over the
    limit. `on_stop` must end streams; it is called before uvicorn waits for open connections.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limits: ConnectionLimits,
        refuse: Refuse,
        overloaded: ASGIApp,
        on_stop: Callable[[], None],
        keep_alive_seconds: float = _KEEP_ALIVE_SECONDS,
    ) -> None:
        protocol = partial(LimitedProtocol, limits=limits, refuse=refuse, overloaded=overloaded)
        config = uvicorn.Config(
            app,
            interface="asgi3",
            http=cast("type[LimitedProtocol]", protocol),  # uvicorn only calls it
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            workers=1,  # unset, a variable of the environment would be parsed
            timeout_keep_alive=cast("int", keep_alive_seconds),
            timeout_graceful_shutdown=_GRACEFUL_SECONDS,
        )
        super().__init__(config)
        self._on_stop = on_stop

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish requests in flight, then stop."""
        self._on_stop()
        await super().shutdown(sockets)
