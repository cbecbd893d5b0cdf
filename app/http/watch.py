"""Looking after requests that are on their way for long."""

import asyncio
from contextvars import Context
from typing import Protocol


class Watched(Protocol):
    """A connection on which a request is on its way."""

    loop: asyncio.AbstractEventLoop

    def look(self, now: float) -> None:
        """End it if the request has been on its way for too long; `now` by the loop's clock."""
        ...


class Watch:
    """Looks now and then at the connections on which a request is on its way.

    Requests that come in one piece, as nearly all do, never get here: a timer for each would cost every one of them.
    """

    def __init__(self, look_seconds: float) -> None:
        self._look_seconds = look_seconds
        self._connections: set[Watched] = set()
        self._is_looking = False

    def add(self, connection: Watched) -> None:
        """Look at a connection from now on."""
        self._connections.add(connection)
        if not self._is_looking:
            self._is_looking = True
            # Not in the context of whoever happens to be first: what is told of others would have its request's id.
            connection.loop.call_later(self._look_seconds, self._look, connection.loop, context=Context())

    def discard(self, connection: Watched) -> None:
        """Look at it no more."""
        self._connections.discard(connection)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for connection in list(self._connections):
            connection.look(now)
        self._is_looking = bool(self._connections)
        if self._is_looking:
            loop.call_later(self._look_seconds, self._look, loop)
