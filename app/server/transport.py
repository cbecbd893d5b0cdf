"""How answers leave, and how a connection closes so that the client can still read them."""

import asyncio
from collections.abc import Callable
from typing import Any, final

_FLUSH_BYTES = 16 * 1024


@final
class AnswerTransport:
    """A transport that sends head and body of an answer together, and lingers when it is closed.

    uvicorn writes head and body separately, and uvloop sends each at once: two segments and two system calls. Sending
    them together saves about a tenth of the CPU of a read or a callback.

    If the client is still sending (`lingers`), the first `close` ends only our side of the connection, the second all of
    it (RFC 9112, section 9.6). Closing a socket with unread data resets it, which can destroy the answer in flight.
    """

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, lingers: Callable[[], bool]
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._lingers = lingers
        self._unsent = b""
        # Called for every answer, so without a step in between.
        self.is_closing = transport.is_closing

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send by the end of this turn of the loop; the protocol flushes when the answer is complete."""
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
        """Close, after lingering if the client is still sending."""
        self.flush()
        if not self.is_closing() and self._lingers():
            self.is_closing = lambda: True
            self._transport.write_eof()
        else:
            self._transport.close()
