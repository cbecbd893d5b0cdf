"""A response that is a stream of events (`text/event-stream`, HTML standard 9.2), as long as its client follows."""

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
# After a restart not all clients are to come back in the same moment.
_RETRY_MILLISECONDS = (1_000, 3_000)


class EventStream(Response):
    """Sends the events of the stream that `opening` opens.

    A stream that is over before it began is answered with 204, at which browsers stop coming back. One that is cut
    ends in an event `stream.cut` that says why. A client that leaves unread what it was sent is dropped.
    """

    media_type = "text/event-stream"

    def __init__(self, opening: AbstractAsyncContextManager[Stream]) -> None:
        # No copies, and no address passed on: a token may stand in it. Without the last nginx would collect events
        # until a buffer is full.
        headers = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Accel-Buffering": "no"}
        super().__init__(headers=headers)
        del self.headers["content-length"]
        self._opening = opening

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the stream is over or the client has left."""
        async with self._opening as stream, watch_disconnect(receive) as leaving:
            leaving.add_done_callback(lambda _: stream.leave())
            events = await stream.next(0)
            if stream.is_over and not events:
                if stream.cut is not None:
                    raise stream.cut
                await Response(status_code=204)(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            sender = ChunkSender(scope, send, stall_seconds=stream.limits.stall_seconds)
            stream.on_stop(lambda: sender.drop_after(stream.limits.stop_seconds))
            retry = random.randint(*_RETRY_MILLISECONDS)  # noqa: S311 -- spreads, guards nothing
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
    """Put events together to chunks of a moderate size; an event is never split."""
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
    """Return the event that says why a stream ends; without an id, so that clients resume after the last event."""
    return b"event: stream.cut\ndata: %b\n\n" % encode(problem_shape(error))
