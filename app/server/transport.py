"""Closing a connection so that the client can still read the answer."""

import asyncio
from collections.abc import Callable
from typing import Any, final


@final
class LingeringTransport:
    """A transport that lingers when closed while the client is still sending (RFC 9112, section 9.6).

    The first `close` then ends only our side of the connection, the second all of it. `lingers` decides whether there
    is something to wait for. Closing a socket with unread data resets it, which can destroy the answer in flight.
    """

    def __init__(self, transport: asyncio.Transport, lingers: Callable[[], bool]) -> None:
        self._transport = transport
        self._lingers = lingers
        # Called for every answer, so without a step in between.
        self.write, self.is_closing = transport.write, transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        """Close, after lingering if the client is still sending."""
        if not self.is_closing() and self._lingers():
            self.is_closing = lambda: True
            self._transport.write_eof()
        else:
            self._transport.close()
