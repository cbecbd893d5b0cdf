"""Requests that arrive before the previous response is complete."""

import pytest

from app.server.limits import ConnectionLimits
from tests.server.application import LEFT, Application
from tests.support.clients.raw_connection import RawConnection, request
from tests.support.servers.http_server import HttpServer
from tests.support.waiting import until


@pytest.mark.parametrize(
    "more", [request("/slow"), b"G", b"nonsense\r\n\r\n", b"\0", b"POST / HTTP/1.1\r\n\r\n" * 3000]
)
@pytest.mark.parametrize("is_in_one_piece", [True, False])
def test_the_current_response_is_the_last(
    application: Application, server: HttpServer, line: RawConnection, more: bytes, is_in_one_piece: bool
) -> None:
    if is_in_one_piece:
        line.send(request("/slow") + more)
    else:
        line.ask("/slow")
        until(application.has_noted, what="the request")
        line.send(more)
        until(lambda: not server.connection(line.address).cycle.keep_alive, what="the second request")
    application.release()
    assert line.answer().body == b"slow"
    assert line.rest() == b""
    line.close()
    until(lambda: server.connection(line.address) is None, what="the end of the connection")
    assert not application.has_noted()


@pytest.mark.parametrize("more", [request("/slow"), request("/echo", method="POST", body=b"x" * 100_000)])
def test_a_disconnect_is_noticed_within_a_second(application: Application, server: HttpServer, more: bytes) -> None:
    with RawConnection(server.port) as line:
        line.ask("/wait-to-leave")
        assert application.noted() == "waiting"
        line.send(more)
        until(lambda: not server.connection(line.address).cycle.keep_alive, what="the second request")
        assert not application.has_noted()
    assert application.noted(seconds=1) == LEFT
    assert application.noted(seconds=1) == LEFT


def test_pipelined_data_is_discarded_up_to_a_limit() -> None:
    application = Application()
    limits = ConnectionLimits(discarded_bytes=1_000_000)
    with HttpServer(application, limits=limits) as server, RawConnection(server.port) as line:
        line.ask("/wait-to-leave")
        assert application.noted() == "waiting"
        with pytest.raises(OSError, match=r"reset|pipe|abort"):
            until(lambda: line.send(b"x" * 100_000), what="the end of the connection")
        assert application.noted() == LEFT
        assert application.noted() == LEFT


def test_endless_empty_lines_count_toward_that_limit() -> None:
    application = Application()
    limits = ConnectionLimits(discarded_bytes=1_000_000)
    with HttpServer(application, limits=limits) as server, RawConnection(server.port) as line:
        line.ask("/wait-to-leave")
        assert application.noted() == "waiting"
        with pytest.raises(OSError, match=r"reset|pipe|abort"):
            until(lambda: line.send(b"\r\n" * 50_000), what="the end of the connection")
        assert application.noted() == LEFT
        assert application.noted() == LEFT


def test_a_client_with_the_whole_response_may_send_the_next_request(
    application: Application, server: HttpServer, line: RawConnection
) -> None:
    """The client can't know whether the application has finished."""
    for _ in range(3):
        line.ask("/slow-to-finish")
        assert line.answer().body == b"slow"
        line.ask("/short")
        until(lambda: server.connection(line.address).flow.read_paused, what="the next request")
        application.release()
        assert line.answer().body == b"ok"


def test_a_large_body_after_the_last_response_does_not_keep_the_connection(
    application: Application, server: HttpServer, line: RawConnection
) -> None:
    body = b"x" * 1_000_000
    announced = request("/echo", method="POST", headers=b"Content-Length: %d\r\n" % len(body))
    line.send(request("/last") + announced + body[:10])
    application.release()
    assert line.answer().body == b"last"
    line.send(body[10:])
    assert line.rest() == b""
    line.close()
    until(lambda: server.connection(line.address) is None, what="the end of the connection")
