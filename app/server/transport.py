"""Closing connections without losing the response."""

import asyncio
from collections.abc import Callable
from typing import Any, final


@final
class LingeringTransport:
    """A transport that closes in two steps while the client is sending (RFC 9112, section 9.6).

    Closing a socket with unread data resets the connection, which can destroy a response in flight. So if `lingers()`
    returns true, the first `close` ends only our side of the connection; the second closes it.
    """

    def __init__(self, transport: asyncio.Transport, lingers: Callable[[], bool]) -> None:
        self._transport = transport
        self._lingers = lingers
        # Called for every response, so without the indirection of `__getattr__`.
        self.write, self.is_closing = transport.write, transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def close(self) -> None:
        """Close, or end only our side if the client is still sending."""
        if not self.is_closing() and self._lingers():
            self.is_closing = lambda: True
            self._transport.write_eof()
        else:
            self._transport.close()
