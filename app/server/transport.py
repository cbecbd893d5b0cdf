"""Sending responses, and closing connections without losing them."""

import asyncio
from collections.abc import Callable
from typing import Any, final

_FLUSH_BYTES = 16 * 1024


@final
class ResponseTransport:
    """Sends head and body of a response together; closes in two steps.

    uvicorn writes head and body separately, and uvloop sends each at once: two segments and two system calls. Sending
    them together saves about a tenth of the CPU of a read or a callback.

    Closing a socket with unread data resets the connection, which can destroy a response in flight. So if `lingers()`
    returns true, because the client is still sending, the first `close` ends only our side of the connection; the
    second closes it (RFC 9112, section 9.6).
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, lingers: Callable[[], bool]
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._lingers = lingers
        self._unsent = b""
        # Called for every response, so without the indirection of `__getattr__`.
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Buffer data until the next flush or iteration of the loop."""
        if not self._unsent:
            self._loop.call_soon(self.flush)
        self._unsent += data
        if len(self._unsent) > _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what was written."""
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            self._transport.write(unsent)

    def close(self) -> None:
        """Close, or end only our side if the client is still sending."""
        self.flush()
        if not self.is_closing() and self._lingers():
            self.is_closing = lambda: True
            self._transport.write_eof()
        else:
            self._transport.close()
