"""Keep-alive: how long connections stay open and how they end."""

from collections.abc import Iterator

import pytest

from app.server.limits import ConnectionLimits
from tests.server.application import Application
from tests.support.clients.raw_connection import RawConnection, request
from tests.support.servers.http_server import HttpServer
from tests.support.waiting import until

SHORT_TIMEOUTS = ConnectionLimits(head_seconds=0.4, body_seconds=0.4, linger_seconds=0.2, tick_seconds=0.05)


@pytest.fixture(scope="module")
def impatient() -> Iterator[HttpServer]:
    """A server with very short timeouts."""
    with HttpServer(Application(), limits=SHORT_TIMEOUTS, keep_alive=0.3) as server:
        yield server


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /short HTTP/1.0\r\n\r\n",
        b"GET /short HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n",
        request("/short", headers=b"Connection: close\r\n"),
        request("/short", headers=b"Connection: Keep-Alive, Close\r\n"),
    ],
)
def test_a_client_can_request_close(line: RawConnection, sent: bytes) -> None:
    line.send(sent)
    answer = line.answer()
    assert (answer.body, answer.headers["connection"]) == (b"ok", "close")
    assert line.rest() == b""


def test_an_application_can_request_close(application: Application, line: RawConnection) -> None:
    line.ask("/last")
    application.release()
    assert (answer := line.answer()).body == b"last"
    assert answer.headers["connection"] == "close"
    assert line.rest() == b""


def test_an_idle_connection_is_closed(impatient: HttpServer) -> None:
    with RawConnection(impatient.port) as line:
        for _ in range(3):
            line.ask("/short")
            assert line.answer().body == b"ok"
        assert line.rest() == b""


def test_a_connection_in_use_is_not_idle() -> None:
    application = Application()
    with HttpServer(application, keep_alive=0.2) as server, RawConnection(server.port) as line:
        line.ask("/short")
        assert line.answer().body == b"ok"
        line.ask("/slow")
        with RawConnection(server.port) as idle:
            for _ in range(2):
                idle.ask("/short")
                assert idle.answer().body == b"ok"
            # This takes three times as long as idle connections are kept.
            for _ in range(3):
                with RawConnection(server.port) as idler:
                    idler.ask("/short")
                    assert idler.answer().body == b"ok"
                    assert idler.rest() == b""
            assert idle.rest() == b""
        application.release()
        assert line.answer().body == b"slow"
        # A connection with a partial request is not idle either.
        line.send(request("/short")[:10])
        with RawConnection(server.port) as idler:
            idler.ask("/short")
            assert idler.answer().body == b"ok"
            assert idler.rest() == b""
        line.send(request("/short")[10:])
        assert line.answer().body == b"ok"


def test_a_client_that_stays_after_the_last_response_is_dropped(impatient: HttpServer) -> None:
    sent = [b"nonsense\r\n\r\n", b"GET", b"GET /", b"POST /short HTTP/1.1\r\nContent-Length: 5\r\nHost: a\r\n\r\na"]
    lines = [RawConnection(impatient.port) for _ in sent]
    for line, more in zip(lines, sent, strict=True):
        line.send(request("/closing") + more)
        assert line.answer().body == b"ok"
        assert line.rest() == b""
    until(lambda: not impatient.connections, what="the end of all connections")
    for line in lines:
        line.close()
    # The server still handles other connections.
    with RawConnection(impatient.port) as line:
        line.send(b"GET")
        assert line.answer().status == 408


def test_shutdown_closes_idle_connections_and_finishes_responses() -> None:
    application = Application()
    with HttpServer(application) as server:
        new, idle, busy, busier = (RawConnection(server.port) for _ in range(4))
        idle.ask("/short")
        assert idle.answer().body == b"ok"
        busy.ask("/slow")
        busier.send(request("/echo", method="POST", headers=b"Content-Length: 5\r\n") + b"hel")
        until(lambda: len(server.connections) == 4 and len(server.tasks) == 2, what="all to be there")
        server.begin_to_stop()
        assert new.rest() == idle.rest() == b""
        busier.send(b"lo" + request("/short"))
        answer = busier.answer()
        assert (answer.body, answer.headers["connection"]) == (b"hello", "close")
        assert busier.rest() == b""
        application.release()
        answer = busy.answer()
        assert (answer.body, answer.headers["connection"]) == (b"slow", "close")
        assert busy.rest() == b""
        for line in (new, idle, busy, busier):
            line.close()
