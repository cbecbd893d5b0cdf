"""An ASGI application that behaves as the path requests."""

import asyncio
import queue
from typing import Any

from starlette.types import Message, Receive, Scope, Send

LEFT: Message = {"type": "http.disconnect"}
PIECE = b"x" * 65_536
"""A part of a response that no buffer can hold as a whole."""
PIECES = 400


def start(status: int = 200, **headers: Any) -> Message:
    lines = [(name.replace("_", "-").encode(), str(value).encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": lines}


def part(body: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": body, "more_body": more}


class Application:
    """Calls the method that the path names.

    Methods note what happens, for the test on another thread.
    """

    def __init__(self) -> None:
        self._notes: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._gate = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await getattr(self, scope["path"].strip("/").replace("-", "_"))(scope, receive, send)

    def noted(self, *, seconds: float = 10) -> Any:
        """Wait for the next note and return it."""
        return self._notes.get(timeout=seconds)

    def has_noted(self) -> bool:
        return not self._notes.empty()

    def release(self) -> None:
        """Let a method continue that has noted that it waits."""
        assert self.noted() == "waiting"
        self._loop.call_soon_threadsafe(self._gate.set)

    async def _wait_for_gate(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._notes.put("waiting")
        await self._gate.wait()
        self._gate.clear()

    # --- valid behavior

    async def short(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(content_length=2))
        await send(part(b"ok"))

    async def parts(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(content_length=11, content_type="text/plain"))
        await send(part(b"hello", more=True))
        await self._wait_for_gate()
        await send(part(more=True))
        await send(part(b" world", more=True))
        await send(part())

    async def chunks(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await self._wait_for_gate()
        await send(part(b"one", more=True))
        await send(part(more=True))
        await send(part(b"two" * 100))

    async def empty_chunks(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(part())

    async def no_content(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(204))
        await send(part())

    async def unchanged(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(304, etag='"x"'))
        await send(part())

    async def echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        await send(start(content_length=len(body)))
        await send(part(body))

    async def slow(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._wait_for_gate()
        await send(start(content_length=4))
        await send(part(b"slow"))

    async def slow_to_finish(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(content_length=4))
        await send(part(b"slow", more=True))
        await self._wait_for_gate()
        await send(part())

    async def closing(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(content_length=2, connection="close"))
        await send(part(b"ok"))

    async def last(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._wait_for_gate()
        await send(start(content_length=4, connection="close"))
        await send(part(b"last"))

    async def wait_to_leave(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        self._notes.put("waiting")
        self._notes.put(await receive())
        self._notes.put(await receive())
        await send(start())

    async def wait_to_answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        waiting = asyncio.ensure_future(receive())
        await self._wait_for_gate()
        self._notes.put(waiting.done())
        await send(start(content_length=0))
        await send(part())
        self._notes.put(await waiting)

    async def two_receive(self, scope: Scope, receive: Receive, send: Send) -> None:
        waiting = [asyncio.ensure_future(receive()) for _ in range(2)]
        await asyncio.sleep(0)  # let both begin
        self._notes.put("waiting")
        messages = await asyncio.gather(*waiting)
        self._notes.put(messages)
        while messages[-1]["more_body"]:
            messages.append(await receive())
        body = b"".join(message["body"] for message in messages)
        await send(start(content_length=len(body)))
        await send(part(body))

    async def flood(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(content_length=PIECES * len(PIECE)))
        for count in range(PIECES):
            self._notes.put(count)
            await send(part(PIECE, more=True))
        await send(part())
        self._notes.put("sent")

    # --- invalid behavior

    async def too_short(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(content_length=10))
        await send(part(b"short"))

    async def too_long(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(content_length=5))
        await send(part(b"hello", more=True))
        await send(part(b"secret"))

    async def fail_first(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("before the response")

    async def fail_amid(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(part(b"hello", more=True))
        raise ValueError("during the response")

    async def no_answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        pass

    async def half_answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        await send(part(b"hello", more=True))

    async def body_first(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(part(b"hello"))

    async def two_ends(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(content_length=5))
        await send(part(b"hello"))
        await send(part(b"again"))

    async def split(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the request's body, `name=value`, as a response header.

        Continues even if the server refuses the header.
        """
        name, _, value = (await receive())["body"].partition(b"=")
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [(name, value)]})
        except RuntimeError:
            self._notes.put("refused")
        await send(part(b"secret"))
