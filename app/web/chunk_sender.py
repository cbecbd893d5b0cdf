"""Sending a response in chunks to clients that may stop reading."""

import asyncio

from starlette.types import Scope, Send

from app.server.extensions import abort_of

STALL_SECONDS = 30.0
"""How long a client may take for one chunk."""


class ChunkSender:
    """Sends chunks, and drops the connection of a client that doesn't take one within `stall_seconds`."""

    def __init__(self, scope: Scope, send: Send, *, stall_seconds: float = STALL_SECONDS) -> None:
        self._abort = abort_of(scope)
        self._send = send
        self._stall_seconds = stall_seconds
        self._loop = asyncio.get_running_loop()
        self._sending_since: float | None = None
        self._timer = self._loop.call_later(stall_seconds, self._check)

    async def send(self, chunk: bytes) -> None:
        """Send a chunk; also returns if the client has left or was dropped."""
        self._sending_since = self._loop.time()
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._sending_since = None

    def drop_after(self, seconds: float) -> None:
        """Drop the client after that time, so that it doesn't delay the end of the process."""
        if self._abort is not None:
            self._loop.call_later(seconds, self._abort)

    def close(self) -> None:
        """Stop checking."""
        self._timer.cancel()

    def _check(self) -> None:
        # Every so often: a timer for each chunk would cost more.
        is_stalled = self._sending_since is not None and self._loop.time() - self._sending_since >= self._stall_seconds
        if is_stalled and self._abort is not None:
            self._abort()
        else:
            self._timer = self._loop.call_later(self._stall_seconds, self._check)
