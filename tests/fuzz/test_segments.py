"""Segmentation changes no response and turns no body into requests."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from app.server.limits import ConnectionLimits
from app.server.protocol import LimitedProtocol
from app.server.server import Server
from app.web.refusals import refuse

SMUGGLED = b"GET /echo HTTP/1.1\r\nHost: a\r\nX-Request-ID: smuggled\r\n\r\n"
OFFERS = [
    b"",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"upgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\nCONNECTION: HTTP2-Settings,upgrade\r\n",
    b"Connection: keep-alive\r\nUpgrade: a/1, b\r\nConnection: Upgrade\r\n",
]
EXPECT = b"Expect: 100-continue\r\n"
Answer = tuple[str, int, str]
"""Request id, status, and what the application saw of the body."""


@dataclass(frozen=True)
class Request:
    path: str
    offer: bytes
    expect: bytes
    body: bytes
    chunk: int
    """The size of chunks; 0 for a `Content-Length` body."""

    def written(self, request_id: str, *, is_plain: bool = False) -> bytes:
        framing, body = b"Content-Length: %d\r\n" % len(self.body), self.body
        if self.chunk:
            framing = b"Transfer-Encoding: chunked\r\n"
            chunks = [self.body[at : at + self.chunk] for at in range(0, len(self.body), self.chunk)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
        headers = b"" if is_plain else self.offer + self.expect
        head = f"POST {self.path} HTTP/1.1\r\nHost: a\r\nX-Request-ID: {request_id}\r\n".encode()
        return head + headers + framing + b"\r\n" + body


bodies = st.one_of(
    st.just(b""), st.binary(max_size=40), st.integers(1, 3).map(lambda count: SMUGGLED * count), st.just(b"0\r\n\r\n")
)
requests = st.builds(
    Request,
    path=st.sampled_from(["/echo", "/early", "/late"]),
    offer=st.sampled_from(OFFERS),
    expect=st.sampled_from([b"", b"", EXPECT]),
    body=bodies,
    chunk=st.sampled_from([0, 0, 1, 7, 1000]),
)
cuts = st.lists(st.integers(0, 2000), max_size=12)


class Echo:
    """Responds with what it received, and records it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        self.seen.append(headers[b"x-request-id"].decode())
        body, more = b"", scope["path"] != "/early"
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if scope["path"] == "/late":
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        content = hashlib.sha256(body).hexdigest().encode()
        status = 201 if body else 200
        lines = [(b"content-length", b"%d" % len(content)), (b"x-request-id", headers[b"x-request-id"])]
        await send({"type": "http.response.start", "status": status, "headers": lines})
        await send({"type": "http.response.body", "body": content})


class Client:
    """A connection in the server's loop; each piece arrives separately."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def send(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._writer.write(piece)
            for _ in range(3):  # the first round lets the loop see the data, the second reads it
                await asyncio.sleep(0)

    async def answer(self) -> Answer | None:
        """Read a response; None at the end of the connection."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"HTTP/1.1 100 "):
                head = await self._reader.readuntil(b"\r\n\r\n")
            status, *lines = head.decode().strip().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            body = await self._reader.readexactly(int(headers["content-length"]))
        except (asyncio.IncompleteReadError, ConnectionResetError):
            return None
        return headers["x-request-id"], int(status.split()[1]), body.decode()

    def close(self) -> None:
        self._writer.close()


class Bench:
    """A server for `Echo` in the clients' event loop."""

    def __init__(self) -> None:
        self._app = Echo()
        self._runner = asyncio.Runner()
        self._port = self._runner.run(self._start())

    async def _start(self) -> int:
        config = Server(
            self._app, limits=ConnectionLimits(), refuse=refuse, overloaded=self._app, on_stop=lambda: None
        ).config
        config.load()
        state, protocol = ServerState(), cast("Callable[..., LimitedProtocol]", config.http_protocol_class)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
        )
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def close(self) -> None:
        self._server.close()
        self._runner.close()

    def check(self, sent: list[Request], cuts: list[int], *, is_pipelined: bool) -> None:
        self._runner.run(self._check(sent, cuts, is_pipelined=is_pipelined))

    async def _check(self, sent: list[Request], cuts: list[int], *, is_pipelined: bool) -> None:
        async with asyncio.timeout(10):
            expected = [await self._alone(request, f"r{number}") for number, request in enumerate(sent)]
            written = [request.written(f"r{number}") for number, request in enumerate(sent)]
            self._app.seen.clear()
            answers = await (self._pipelined(written, cuts) if is_pipelined else self._in_turn(written, cuts))
        assert answers == expected
        assert self._app.seen == [request_id for request_id, _, _ in expected]

    async def _alone(self, request: Request, request_id: str) -> Answer:
        """Return the response to a request sent alone, without upgrade."""
        client = await self._connect()
        await client.send([request.written(request_id, is_plain=True)])
        answer = await client.answer()
        client.close()
        assert answer is not None
        return answer

    async def _in_turn(self, written: list[bytes], cuts: list[int]) -> list[Answer | None]:
        """Send each request after the previous response."""
        client = await self._connect()
        answers = []
        for request in written:
            await client.send(cut(request, cuts))
            answers.append(await client.answer())
        client.close()
        return answers

    async def _pipelined(self, written: list[bytes], cuts: list[int]) -> list[Answer]:
        """Pipeline all requests; resend those without a response."""
        answers: list[Answer] = []
        while len(answers) < len(written):
            client = await self._connect()
            before = len(answers)
            await client.send(cut(b"".join(written[before:]), cuts))
            while len(answers) < len(written) and (answer := await client.answer()):
                answers.append(answer)
            client.close()
            assert len(answers) > before
        return answers

    async def _connect(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self._port))


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    ends = [*sorted({at for at in cuts if 0 < at < len(data)}), len(data)]
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


@pytest.mark.parametrize("is_pipelined", [False, True])
def test_each_request_gets_the_answer_that_it_gets_alone(bench: Bench, is_pipelined: bool) -> None:
    @settings(max_examples=400, derandomize=True, database=None)
    @given(st.lists(requests, min_size=1, max_size=5), cuts)
    def check(sent: list[Request], cuts: list[int]) -> None:
        bench.check(sent, cuts, is_pipelined=is_pipelined)

    check()
