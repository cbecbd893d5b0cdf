"""Sends responses in chunks and drops clients that stop reading."""

import asyncio

from starlette.types import Scope, Send

from app.server.extensions import abort_of

STALL_SECONDS = 30.0
"""How long a client can take to receive one chunk."""


class ChunkSender:
    """Sends chunks; drops clients that stall for `stall_seconds`."""

    def __init__(self, scope: Scope, send: Send, *, stall_seconds: float = STALL_SECONDS) -> None:
        self._abort = abort_of(scope)
        self._send = send
        self._stall_seconds = stall_seconds

    async def send(self, chunk: bytes) -> None:
        """Send a chunk; returns even if the client is gone."""
        timer = asyncio.get_running_loop().call_later(self._stall_seconds, self._abort)
        try:
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        finally:
            timer.cancel()

    def drop_after(self, seconds: float) -> None:
        """Drop the client after a delay, to unblock shutdown."""
        asyncio.get_running_loop().call_later(seconds, self._abort)
