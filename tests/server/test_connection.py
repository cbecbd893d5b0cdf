"""Limits on what clients send: content, size and speed."""

import queue
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from app.logging import bind_request_id, current_request_id
from app.server.limits import ConnectionLimits
from tests.server.application import PIECES, Application
from tests.support.clients.raw_connection import RawConnection, request
from tests.support.servers.http_server import HttpServer
from tests.support.servers.served import Served, serve
from tests.support.servers.vendor import envelope
from tests.support.waiting import until

SHORT_TIMEOUTS = ConnectionLimits(
    head_seconds=0.4,
    body_seconds=0.6,
    body_bytes_per_second=1024,
    linger_seconds=0.3,
    unread_seconds=0.5,
    tick_seconds=0.05,
)
HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    with serve(f"sqlite:///{directory / 'test.db'}", directory) as served:
        yield served


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway with very short timeouts.

    Only for tests of timeouts, because any client is slow on a busy machine.
    """
    directory = tmp_path_factory.mktemp("impatient")
    with serve(f"sqlite:///{directory / 'test.db'}", directory, connection_limits=SHORT_TIMEOUTS) as served:
        yield served


@pytest.fixture
def line(served: Served) -> Iterator[RawConnection]:
    with closing(RawConnection(served.gateway.settings.port)) as line:
        yield line


@pytest.mark.parametrize(
    ("sent", "problem"),
    [
        (b"GET /healthz?" + b"x" * 8_200 + b" HTTP/1.1\r\n" + HOST + b"\r\n", (414, "uri_too_long")),
        (b"GET /" + b"x" * 300_000, (414, "uri_too_long")),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 33_000 + b"\r\n\r\n", (431, "headers_too_large")),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 300_000, (431, "headers_too_large")),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 100 + b"\r\n", (431, "headers_too_large")),
        (b"GET /healthz HTTP/1.1\r\n" + b"x" * 300_000, (431, "headers_too_large")),
        (b"\r\n" * 20_000, (431, "headers_too_large")),
        (b"GET /healthz HTTP/1.1\r\n\r\n", (400, "malformed_request")),
        (b"GET /healthz HTTP/1.1\r\n" + HOST + HOST + b"\r\n", (400, "malformed_request")),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", (400, "malformed_request")),
        (b"hello\r\n\r\n", (400, "malformed_request")),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", (400, "malformed_request")),
        (b"GET /\xff HTTP/1.1\r\n" + HOST + b"\r\n", (400, "malformed_request")),
        (b"GET healthz HTTP/1.1\r\n" + HOST + b"\r\n", (400, "malformed_request")),
        (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", (400, "malformed_request")),
        (b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n", (400, "malformed_request")),
        (b"GET ftp://localhost/ HTTP/1.1\r\n" + HOST + b"\r\n", (400, "malformed_request")),
        (b"GET http://me@localhost/ HTTP/1.1\r\n" + HOST + b"\r\n", (400, "malformed_request")),
        (b"GET / HTTP/1.1\r\n" + HOST + b"A: b\x00c\r\n\r\n", (400, "malformed_request")),
        (
            b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
            (400, "malformed_request"),
        ),
        (
            b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            (400, "malformed_request"),
        ),
    ],
    ids=lambda value: value[:24].decode("latin-1") if isinstance(value, bytes) else value[1],
)
def test_oversized_or_invalid_requests_get_a_problem(
    line: RawConnection, sent: bytes, problem: tuple[int, str]
) -> None:
    line.send(sent)
    answer = line.answer()
    assert answer.problem == problem
    assert answer.headers["connection"] == "close"
    assert line.rest() == b""


def test_requests_at_the_limits_are_served(line: RawConnection) -> None:
    line.send(b"GET /healthz?" + b"x" * 8_000 + b" HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 22_000 + b"\r\n\r\n")
    assert line.answer().status == 200
    line.send(b"GET /healthz HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 99 + b"\r\n")
    assert line.answer().status == 200


def test_head_and_body_in_one_segment_are_not_one_large_head(line: RawConnection) -> None:
    body = b'{"prompt":"x"}'.ljust(100_000)
    line.send(b"POST /v1/tasks HTTP/1.1\r\n" + HOST + JSON + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    assert line.answer().status == 202


def test_the_host_of_an_absolute_target_overrides_the_header(line: RawConnection) -> None:
    line.send(b"GET http://localhost:1/v1/tasks?limit=1 HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert line.answer().status == 200
    line.send(b"GET http://[::1] HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert line.answer().status == 307
    line.send(b"GET http://evil.example/v1/tasks HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert line.answer().problem == (403, "host_not_allowed")


def test_trailers_do_not_change_headers(served: Served, line: RawConnection) -> None:
    body = b'{"prompt":"x"}'
    head = b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n"
    line.send(head + b"\r\n%x\r\n%b\r\n0\r\nContent-Type: application/json\r\n\r\n" % (len(body), body))
    assert line.answer().problem == (415, "unsupported_media_type")
    line.send(head + b"Content-Type: application/json\r\n\r\n%x\r\n%b\r\n0\r\nX: " % (len(body), body))
    # Data that arrives together with the body, up to 256 KiB, is only counted after the body.
    line.send(b"x" * 600_000)
    assert line.answer().problem == (431, "headers_too_large")
    assert served.client.get("/healthz").status_code == 200


def test_incomplete_requests_time_out(impatient: Served) -> None:
    """Tests all requests at once to save time."""
    body_head = b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    task = impatient.client.submit()
    halves = {
        b"": None,
        b"\r\n": None,
        b"GET /healthz HTTP/1.1\r\nHos": (408, "request_timeout"),
        b"GET /healthz HTTP/1.1\r\n" + HOST: (408, "request_timeout"),
        body_head + b'{"prompt"': (408, "request_timeout"),
        body_head.replace(b"Content-Length: 100", b"Transfer-Encoding: chunked") + b"5\r\nab": (408, "request_timeout"),
        b"GET /v1/tasks/%b?wait=60 HTTP/1.1\r\n" % task["id"].encode() + HOST + b"Content-Length: 5\r\n\r\na": (
            408,
            "request_timeout",
        ),
    }
    with ExitStack() as stack:
        lines = {sent: stack.enter_context(closing(RawConnection(impatient.gateway.settings.port))) for sent in halves}
        for sent, line in lines.items():
            line.send(sent)
        for sent, line in lines.items():
            if halves[sent] is not None:
                assert line.answer().problem == halves[sent]
            assert line.rest() == b""


def test_a_client_that_does_not_read_its_response_is_dropped() -> None:
    application = Application()
    with HttpServer(application, limits=SHORT_TIMEOUTS) as server, RawConnection(server.port, window=4096) as line:
        line.ask("/flood")
        connection = until(lambda: server.connection(line.address), what="the connection")
        until(lambda: connection.transport.get_write_buffer_size() > 65_536, what="an answer that does not get away")
        until(lambda: not server.connections, what="the end of the connection")
        assert [application.noted() for _ in range(PIECES + 1)] == [*range(PIECES), "sent"]


def test_a_disconnect_ends_all_requests(served: Served) -> None:
    task = served.client.submit()
    path = f"/v1/tasks/{task['id']}".encode()
    open_requests = served.gateway.container.events.open_requests
    with (
        closing(RawConnection(served.gateway.settings.port)) as line,
        closing(RawConnection(served.gateway.settings.port)) as other,
    ):
        for one, query in ((line, b"?wait=60"), (other, b"/events")):
            one.send(b"GET " + path + query + b" HTTP/1.1\r\n" + HOST + b"\r\n")
            one.send(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
        until(lambda: open_requests.count == 2, what="both to be under way")
    until(lambda: open_requests.count == 0, seconds=5, what="both to end")


def test_the_time_limit_of_a_head_applies_to_later_requests(impatient: Served) -> None:
    with closing(RawConnection(impatient.gateway.settings.port)) as line:
        line.send(b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n")
        assert line.answer().status == 200
        line.send(b"\r\n")
        assert line.rest() == b""


def test_waits_streams_and_steady_bodies_have_no_time_limit(impatient: Served) -> None:
    task, _ = impatient.processing()
    path = f"/v1/tasks/{task['id']}".encode()
    with ExitStack() as stack:
        wait, slow = (stack.enter_context(closing(RawConnection(impatient.gateway.settings.port))) for _ in range(2))
        stream = stack.enter_context(impatient.follow(path.decode() + "/events"))
        wait.send(b"GET " + path + b"?wait=2 HTTP/1.1\r\n" + HOST + b"\r\n")
        body = b'{"prompt":"x"' + b" " * 4_000 + b"}"
        head = b"POST /v1/tasks HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        slow.send(head % len(body) + body[:-1])
        assert wait.answer().headers["preference-applied"] == "wait=2"
        slow.send(body[-1:])
        assert slow.answer().status == 202
        assert not stream.is_over


def test_a_refused_client_that_stays_connected_is_dropped(impatient: Served) -> None:
    with closing(RawConnection(impatient.gateway.settings.port)) as line:
        line.send(b"nonsense\r\n\r\n")
        assert line.answer().status == 400
        with pytest.raises(OSError, match=r"reset|pipe|abort"):
            until(lambda: line.send(b"more nonsense"), what="the end of the connection")


def test_little_is_read_after_a_refusal() -> None:
    limits = ConnectionLimits(discarded_bytes=1_000_000, linger_seconds=60)
    with HttpServer(Application(), limits=limits) as server, RawConnection(server.port) as line:
        line.send(b"nonsense\r\n\r\n")
        assert line.answer().status == 400
        with pytest.raises(OSError, match=r"reset|pipe|abort"):
            until(lambda: line.send(b"x" * 100_000), what="the end of the connection")
        until(lambda: not server.connections, what="the end of the connection")


def test_a_body_is_not_stored_after_the_response() -> None:
    with HttpServer(Application()) as server, RawConnection(server.port) as line:
        line.send(request("/short", method="POST", headers=b"Content-Length: 200000\r\n") + b"x" * 60_000)
        assert line.answer().body == b"ok"
        line.send(b"x" * 100_000)
        connection = server.connection(line.address)
        until(lambda: connection.discarded_bytes >= 100_000, what="the rest of the body")
        assert not connection.cycle.body
        line.send(b"x" * 40_000 + request("/short"))
        assert line.answer().body == b"ok"


def test_a_refusal_has_its_own_request_id() -> None:
    """Timers copy contexts, and uvloop shares one among connections."""
    found: queue.SimpleQueue[str] = queue.SimpleQueue()

    def note(status: int, detail: str, client: tuple[str, int] | None) -> Response:
        found.put(current_request_id())
        bind_request_id("refused")
        return Response(status_code=status)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        bind_request_id("answered")
        await Application().short(scope, receive, send)

    with HttpServer(answer, limits=SHORT_TIMEOUTS, refuse=note) as server:
        with RawConnection(server.port) as line:
            line.ask("/")
            assert line.answer().body == b"ok"
            line.send(b"GET")
            assert line.answer().status == 408
        with RawConnection(server.port) as line:
            line.send(b"nonsense\r\n\r\n")
            assert line.answer().status == 400
    assert [found.get(timeout=10), found.get(timeout=10)] == ["", ""]


def test_an_unread_body_is_discarded_up_to_a_limit(served: Served, line: RawConnection) -> None:
    task = served.client.submit()
    head = b"POST /v1/tasks/%b/cancel HTTP/1.1\r\n" % task["id"].encode() + HOST
    line.send(head + b"Content-Length: 1000000000\r\n\r\n")
    assert line.answer().problem == (413, "body_too_large")
    with pytest.raises(OSError, match=r"reset|pipe|abort"):
        until(lambda: line.send(b"x" * 8_000_000), what="the end of the connection")


@pytest.mark.parametrize("more", [b"", b"Connection: close\r\n"])
def test_a_client_that_reads_after_sending_gets_the_response(line: RawConnection, more: bytes) -> None:
    size = 30_000_000
    line.send(b"POST /v1/tasks HTTP/1.1\r\n" + HOST + JSON + more + b"Content-Length: %d\r\n\r\n" % size)
    line.send(b"x" * size)
    assert line.answer().problem == (413, "body_too_large")
    if more:
        assert line.rest() == b""


def test_a_stream_does_not_accept_a_large_body(line: RawConnection) -> None:
    line.send(b"GET /v1/events HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
    assert line.answer().status == 200
    with pytest.raises(OSError, match=r"reset|pipe|abort"):
        until(lambda: line.send(b"400000\r\n" + b"x" * 0x400000 + b"\r\n"), what="the end of the connection")


def test_excess_connections_get_503_or_are_dropped(tmp_path: Path) -> None:
    limits = ConnectionLimits(connections=2, spare_connections=1, head_seconds=30)
    given = {"connection_limits": limits, "public_base_url": "http://localhost/below"}
    with serve(f"sqlite:///{tmp_path / 'test.db'}", tmp_path, **given) as served, ExitStack() as stack:
        served.vendor.on_submit = lambda _: envelope(400, "no")
        readyz = b"GET /readyz HTTP/1.1\r\n" + HOST + b"\r\n"
        first, second, third, fourth = (
            stack.enter_context(closing(RawConnection(served.gateway.settings.port))) for _ in range(4)
        )
        fourth.rest()
        first.send(readyz)
        assert first.answer().status == 200
        third.send(b"GET /v1/tasks HTTP/1.1\r\n" + HOST + b"\r\n")
        refused = third.answer()
        assert refused.problem == (503, "too_many_connections")
        assert (refused.headers["retry-after"], refused.headers["connection"]) == ("5", "close")
        assert third.rest() == b""
        callback = stack.enter_context(closing(RawConnection(served.gateway.settings.port)))
        callback.send(b"POST /callbacks/nanobanana/x HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\n{}")
        answered = callback.answer()
        assert answered.problem == (404, "unknown_callback")
        assert answered.headers["connection"] == "close"
        assert callback.rest() == b""
        for path in (b"/healthz", b"/readyz", b"/below/healthz"):
            probe = stack.enter_context(closing(RawConnection(served.gateway.settings.port)))
            probe.send(b"GET " + path + b" HTTP/1.1\r\n" + HOST + b"\r\n")
            assert probe.answer().status == 200
            assert probe.rest() == b""
        second.close()
        again = stack.enter_context(closing(RawConnection(served.gateway.settings.port)))
        again.send(readyz)
        assert again.answer().status == 200
