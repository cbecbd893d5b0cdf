"""Server-sent events (`text/event-stream`, HTML standard 9.2)."""

import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.errors import GatewayError
from app.events.streams import Stream
from app.shapes.base import encode
from app.shapes.event import BroadcastEvent
from app.shapes.problem import problem_shape
from app.web.chunk_sender import ChunkSender
from app.web.waiting import watch_disconnect

_HEARTBEAT = b": heartbeat\n\n"
_CHUNK_BYTES = 64 * 1024
# Random, so clients don't all reconnect at the same moment after a restart.
_RETRY_MS = (1_000, 3_000)


class EventStream(Response):
    """Sends the events of the stream that `opening` opens.

    The response to an empty stream is 204, so browsers don't reconnect. A stream that ends early sends the event
    `stream.cut` with the reason. A client that doesn't read is disconnected.
    """

    media_type = "text/event-stream"

    def __init__(self, opening: AbstractAsyncContextManager[Stream]) -> None:
        headers = {
            # Proxies that compress may hold events back.
            "Cache-Control": "no-store, no-transform",
            # The URL may contain a token.
            "Referrer-Policy": "no-referrer",
            # nginx would buffer events.
            "X-Accel-Buffering": "no",
        }
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._opening = opening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the stream is over or the client disconnects."""
        async with self._opening as stream, watch_disconnect(receive) as disconnected:
            disconnected.add_done_callback(lambda _: stream.close())
            events = await stream.next(0)
            if stream.is_over and not events:
                if stream.cut is not None:
                    raise stream.cut
                await Response(status_code=204)(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            sender = ChunkSender(scope, send, stall_seconds=stream.limits.stall_seconds)
            stream.on_stop(lambda: sender.drop_after(stream.limits.stop_seconds))
            retry = random.randint(*_RETRY_MS)  # noqa: S311 -- not for security
            await sender.send(b"retry: %d\n\n" % retry)
            await self._follow(stream, events, sender)
            await send({"type": "http.response.body", "body": b""})

    @staticmethod
    async def _follow(stream: Stream, events: list[BroadcastEvent], sender: ChunkSender) -> None:
        while True:
            for chunk in _chunks(events):
                await sender.send(chunk)
            if stream.is_over:
                break
            try:
                events = await stream.next(stream.limits.heartbeat_seconds)
            except GatewayError as error:
                await sender.send(_cut(error))
                return
            if not events and not stream.is_over:
                await sender.send(_HEARTBEAT)
        if stream.cut is not None:
            await sender.send(_cut(stream.cut))


def _chunks(events: Sequence[BroadcastEvent]) -> Iterator[bytes]:
    """Join whole events into chunks of moderate size."""
    chunk: list[bytes] = []
    size = 0
    for event in events:
        frame = event.frame
        if chunk and size + len(frame) > _CHUNK_BYTES:
            yield b"".join(chunk)
            chunk, size = [], 0
        chunk.append(frame)
        size += len(frame)
    if chunk:
        yield b"".join(chunk)


def _cut(error: GatewayError) -> bytes:
    """Return `stream.cut`, without an ID, so that clients can resume."""
    return b"event: stream.cut\ndata: %b\n\n" % encode(problem_shape(error))
