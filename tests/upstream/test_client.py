"""The upstream client against real sockets.

If the request may have been sent, the outcome is `Unknown`; if it certainly wasn't, `TryAgain`.
"""

import asyncio
import gc
import gzip
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from app.domain.models import Model
from app.domain.submit_outcome import Accepted, AccountRefused, Refused, SubmitOutcome, TryAgain, Unknown
from app.domain.verdict import ErrorCode, Failed, Generating, Unanswered, Unreadable
from app.upstream.client import UpstreamClient
from app.upstream.scrub import Scrubber

KEY = "sk-very-secret-key"
ID = "0123456789abcdef0123456789abcdef"
INPUT = {"prompt": "a lake", "image_urls": []}

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def reply(body: object, status: int = 200, *headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


ACCEPTED = reply({"code": 200, "msg": "success", "data": {"taskId": ID}})


class RawServer:
    """A vendor that serves each connection with `serve`."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self.connections = 0
        self.url = ""

    async def on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running(serve: Serve) -> AsyncIterator[RawServer]:
    raw = RawServer(serve)
    server = await asyncio.start_server(raw.on_connection, "127.0.0.1", 0)
    raw.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield raw
    finally:
        server.close()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return head + await reader.readexactly(int(line.partition(b":")[2]))
    return head


def answering(*chunks: bytes, pause: float = 0.0) -> Serve:
    """Read the request, send these bytes with pauses between, close."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(pause)

    return serve


@asynccontextmanager
async def client_of(url: str, *, patience: float = 5.0) -> AsyncIterator[UpstreamClient]:
    client = UpstreamClient(base_url=url, api_key=KEY, timeout=patience, concurrency=4)
    try:
        yield client
    finally:
        await client.aclose()


async def submit_to(url: str, *, patience: float = 5.0) -> SubmitOutcome:
    async with client_of(url, patience=patience) as client:
        return await client.submit(Model.NANO_BANANA, INPUT, "http://me/callback")


async def outcome_of(serve: Serve, *, patience: float = 5.0) -> SubmitOutcome:
    async with running(serve) as server:
        outcome = await submit_to(server.url, patience=patience)
        assert server.connections == 1 or serve in {closes_at_once, resets_at_once}, "sent more than once"
        return outcome


def assert_unreached(outcome: SubmitOutcome) -> None:
    assert isinstance(outcome, TryAgain), outcome
    assert outcome.pauses_account
    assert outcome.error.code is ErrorCode.UPSTREAM_ERROR


def unused_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


async def test_a_reply_with_a_task_id_is_an_acceptance() -> None:
    requests = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))
        writer.write(ACCEPTED)

    assert await outcome_of(serve) == Accepted(ID)
    head, _, body = requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /api/v1/nanobanana/generate HTTP/1.1")
    assert f"Authorization: Bearer {KEY}".encode() in head
    assert json.loads(body) == {"prompt": "a lake", "type": "TEXTTOIAMGE", "callBackUrl": "http://me/callback"}


async def test_a_refused_connection() -> None:
    assert_unreached(await submit_to(f"http://127.0.0.1:{unused_port()}"))


async def test_a_name_that_does_not_resolve() -> None:
    assert_unreached(await submit_to("http://nowhere.invalid"))


async def answers_in_the_clear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.write(reply(b"", 400))
    await writer.drain()


async def closes_within_the_handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)


# After a failed handshake, asyncio leaves the socket to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("serve", [answers_in_the_clear, closes_within_the_handshake])
async def test_a_failed_tls_handshake(serve: Serve) -> None:
    async with running(serve) as server:
        assert_unreached(await submit_to(server.url.replace("http://", "https://")))
    gc.collect()


async def test_a_connect_that_hangs() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        async with AsyncExitStack() as stack:
            # Nothing accepts connections; once the backlog is full, further handshakes get no answer.
            for _ in range(4):
                waiting = stack.enter_context(socket.socket())
                waiting.settimeout(0)
                waiting.connect_ex(address)
            assert_unreached(await submit_to(f"http://127.0.0.1:{address[1]}", patience=0.5))


async def closes_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    pass


async def resets_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


async def closes_within_the_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(20)


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    await reader.read()


BROKEN: dict[str, Serve] = {
    "closed within the request": closes_within_the_request,
    "closed after the request": answering(),
    "silence": says_nothing,
    "cut in the status line": answering(b"HTTP/1."),
    "cut in the headers": answering(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "cut in the body": answering(ACCEPTED[:-5]),
    "cut in a chunk": answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc"),
    "trickling past the timeout": answering(*(bytes([byte]) for byte in ACCEPTED), pause=0.05),
    "not HTTP": answering(b"\x00\x01\x02garbage\r\n\r\n"),
    "oversized": answering(reply(b" " * (2 * 1024 * 1024))),
    "endless": answering(b"HTTP/1.1 200 OK\r\n\r\n", *[b" " * 65536] * 40),
    "a gzip bomb": answering(reply(gzip.compress(b" " * 50_000_000), 200, "Content-Encoding: gzip")),
    "broken gzip": answering(reply(b"no gzip", 200, "Content-Encoding: gzip")),
    "a redirect to nonsense": answering(reply(b"", 302, "Location: http://[::bad:::1/\x80")),
    "a bad gateway": answering(reply(b"<html>", 502)),
    "an unreadable success": answering(reply(b"<html>")),
}


@pytest.mark.parametrize("how", BROKEN)
async def test_the_outcome_is_unknown_once_bytes_may_have_been_sent(how: str) -> None:
    assert isinstance(await outcome_of(BROKEN[how], patience=0.5), Unknown)


async def test_a_redirect_is_not_followed_and_accepts_no_task() -> None:
    assert isinstance(await outcome_of(answering(reply(b"", 307, "Location: /elsewhere"))), TryAgain)


@pytest.mark.parametrize("serve", [closes_at_once, resets_at_once])
async def test_a_connection_closed_before_the_request_is_never_a_success(serve: Serve) -> None:
    # The client may notice before or after its first byte; it may try again only in the first case.
    assert isinstance(await outcome_of(serve), Unknown | TryAgain)


async def test_a_compressed_reply_is_read() -> None:
    content = gzip.compress(json.dumps({"code": 200, "data": {"taskId": ID}}).encode())
    assert await outcome_of(answering(reply(content, 200, "Content-Encoding: gzip"))) == Accepted(ID)


async def test_a_rate_limit_with_retry_after() -> None:
    outcome = await outcome_of(answering(reply({"code": 429, "msg": "slow"}, 429, "Retry-After: 7")))
    assert isinstance(outcome, TryAgain)
    assert (outcome.retry_after, outcome.error.message) == (7_000, "slow")


async def test_an_idle_connection_closed_by_the_server_is_not_used() -> None:
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(ACCEPTED)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        closed.set()

    async with running(serve) as server, client_of(server.url) as client:
        for number in (1, 2):
            closed.clear()
            assert await client.submit(Model.NANO_BANANA, INPUT, "http://me/callback") == Accepted(ID)
            assert server.connections == number
            await closed.wait()


async def test_a_connection_closed_during_a_request_is_unknown_and_not_retried() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(ACCEPTED)
        await read_request(reader)

    async with running(serve) as server, client_of(server.url) as client:
        assert await client.submit(Model.NANO_BANANA, INPUT, "http://me/callback") == Accepted(ID)
        assert isinstance(await client.submit(Model.NANO_BANANA, INPUT, "http://me/callback"), Unknown)
        assert server.connections == 1


async def test_a_proxy_from_the_environment_is_not_used_for_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port()}")
    assert await outcome_of(answering(ACCEPTED)) == Accepted(ID)


async def test_a_proxy_from_the_environment_is_used_for_other_upstreams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with running(answering(ACCEPTED)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        assert await submit_to("http://upstream.invalid") == Accepted(ID)


async def test_without_a_proxy_tunnel_the_task_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    async with running(answering(reply(b"", 502))) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        monkeypatch.setenv("https_proxy", proxy.url)
        assert isinstance(await submit_to("https://upstream.invalid"), TryAgain)
        assert proxy.connections == 1


@pytest.mark.parametrize("code", [400, 401, 402, 429, 500, 502])
@pytest.mark.parametrize("padding", [0, 1988])
async def test_the_key_is_removed_from_the_vendors_messages(code: int, padding: int) -> None:
    message = " " + "x" * padding + f" key {KEY} is wrong"
    match await outcome_of(answering(reply({"code": code, "msg": message}))):
        case Refused(error) | AccountRefused(error) | TryAgain(error):
            text = error.message
        case Unknown(reason):
            text = reason
    assert "sk-" not in text
    assert padding or "key *** is wrong" in text


async def ask(serve: Serve, patience: float = 5.0) -> object:
    async with running(serve) as server, client_of(server.url, patience=patience) as client:
        return await client.record_info(ID)


async def test_a_poll_names_the_task() -> None:
    requests = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await read_request(reader))
        writer.write(reply({"code": 200, "data": {"taskId": ID, "successFlag": 0}}))

    assert await ask(serve) == Generating(ID)
    assert requests[0].startswith(f"GET /api/v1/nanobanana/record-info?taskId={ID} HTTP/1.1".encode())


@pytest.mark.parametrize("how", BROKEN)
async def test_a_poll_without_an_answer_is_no_result(how: str) -> None:
    assert isinstance(await ask(BROKEN[how], patience=0.5), Unreadable | Unanswered)


async def test_a_poll_answered_by_a_page_reports_its_title() -> None:
    page = b"<html><head><title>Not here, sk-very-secret-key</title></head></html>"
    assert await ask(answering(reply(page, 404))) == Unreadable("record-info responded with HTTP 404: Not here, ***")


async def test_a_record_without_an_id_is_about_the_task_polled() -> None:
    assert await ask(answering(reply({"code": 200, "data": {"successFlag": 0}}))) == Generating(ID)


def test_a_placeholder_key_does_not_change_messages() -> None:
    assert Scrubber("sandbox").text("Unknown sandbox directive") == "Unknown sandbox directive"
    assert Scrubber(KEY).text(f"key {KEY} is wrong") == "key *** is wrong"


async def test_the_key_is_removed_from_records() -> None:
    data = {"taskId": ID, "successFlag": 3, "errorMessage": f"key {KEY} is wrong"}
    report = await ask(answering(reply({"code": 200, "data": data})))
    assert isinstance(report, Failed)
    assert report.error.message == "key *** is wrong"
    unreadable = await ask(answering(reply({"code": 401, "msg": f"key {KEY} is wrong"})))
    assert isinstance(unreadable, Unreadable)
    assert KEY not in unreadable.reason
