"""Connections that a request's handler can cut."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class CuttableConnection(HttpToolsProtocol):
    """uvicorn's HTTP connection, with `hang_up()` in each request's `scope["state"]`.

    ASGI has no word for "close without an answer", and whatever an application raises becomes a 500.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Here rather than in uvicorn's settings, which would silence every uvicorn in this process.
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Offer the way out to every request that comes over this connection."""
        self.app_state = {**self.app_state, "hang_up": transport.abort}
        super().connection_made(transport)
