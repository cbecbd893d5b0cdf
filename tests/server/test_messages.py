"""Requests and responses, seen by application and client."""

from typing import Any

import pytest

from tests.server.application import LEFT, PIECE, PIECES, Application
from tests.support.clients.raw_connection import RawConnection, request
from tests.support.servers.http_server import HttpServer
from tests.support.waiting import until

# --- responses


def test_a_response_of_known_length_is_sent_as_it_is_produced(application: Application, line: RawConnection) -> None:
    line.ask("/parts")
    head = line.answer(without_body=True)
    assert (head.status, head.headers["content-length"], head.headers["content-type"]) == (200, "11", "text/plain")
    assert "date" in head.headers
    assert not {"connection", "transfer-encoding"} & set(head.headers)
    assert line.read(5) == b"hello"
    application.release()
    assert line.read(6) == b" world"
    line.ask("/short")
    assert line.answer().body == b"ok"


def test_the_head_of_a_chunked_response_is_sent_at_once(application: Application, line: RawConnection) -> None:
    line.ask("/chunks")
    head = line.answer()
    assert head.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in head.headers
    application.release()
    assert [line.chunk() for _ in range(3)] == [b"one", b"two" * 100, b""]
    line.ask("/empty-chunks")
    assert line.answer().headers["transfer-encoding"] == "chunked"
    assert line.chunk() == b""
    line.ask("/short")
    assert line.answer().body == b"ok"


@pytest.mark.parametrize(
    ("method", "path", "status", "length"),
    [
        ("HEAD", "/short", 200, "2"),
        ("HEAD", "/empty-chunks", 200, None),
        ("GET", "/no-content", 204, None),
        ("HEAD", "/no-content", 204, None),
        ("GET", "/unchanged", 304, None),
    ],
)
def test_responses_without_a_body_end_with_their_head(
    line: RawConnection, method: str, path: str, status: int, length: str | None
) -> None:
    line.ask(path, method=method)
    head = line.answer(without_body=True)
    assert (head.status, head.headers.get("content-length")) == (status, length)
    assert "transfer-encoding" not in head.headers
    line.ask("/short")
    assert line.answer().body == b"ok"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("too-short", b"short"),
        ("too-long", b"hello"),
        ("fail-amid", b"5\r\nhello\r\n"),
        ("half-answer", b"5\r\nhello\r\n"),
        ("two-ends", b"hello"),
    ],
)
def test_a_broken_response_ends_the_connection(line: RawConnection, path: str, body: bytes) -> None:
    line.ask(f"/{path}")
    assert line.answer(without_body=True).status == 200
    assert line.rest() == body


@pytest.mark.parametrize("path", ["fail-first", "no-answer", "body-first"])
def test_an_application_error_reveals_nothing(line: RawConnection, path: str) -> None:
    line.ask(f"/{path}")
    answer = line.answer()
    assert (answer.status, answer.body) == (500, b"Internal Server Error")
    assert line.rest() == b""


@pytest.mark.parametrize("end", [b"\r\n", b"\r", b"\n"])
@pytest.mark.parametrize("bent", [b"x-a: 1%bx-b=2", b"x-a=1%bx-b: 2", b"x-a=1%b", b"%bx-a=1", b"x-a=%b\r\nbody"])
def test_a_header_with_a_newline_is_not_sent(
    application: Application, line: RawConnection, bent: bytes, end: bytes
) -> None:
    line.ask("/split", method="POST", body=bent % end)
    assert application.noted() == "refused"
    assert line.rest() == b""


def test_sending_waits_for_a_slow_reader(application: Application, server: HttpServer) -> None:
    with RawConnection(server.port, window=4096) as line:
        line.ask("/flood")
        connection = until(lambda: server.connection(line.address), what="the connection")
        until(lambda: connection.flow.write_paused, what="the application having to wait")
        assert connection.transport.get_write_buffer_size() < 4 * len(PIECE)
        assert line.answer(without_body=True).status == 200
        for _ in range(PIECES):
            assert line.read(len(PIECE)) == PIECE
    assert [application.noted() for _ in range(PIECES + 1)] == [*range(PIECES), "sent"]


def test_a_disconnect_during_a_response_does_not_raise(application: Application, server: HttpServer) -> None:
    with RawConnection(server.port, window=4096) as line:
        line.ask("/flood")
        assert line.answer(without_body=True).status == 200
    assert [application.noted() for _ in range(PIECES + 1)] == [*range(PIECES), "sent"]


# --- requests


def test_100_continue_is_sent_when_the_body_is_read(line: RawConnection) -> None:
    line.send(request("/echo", method="POST", headers=b"Expect: 100-continue\r\nContent-Length: 5\r\n"))
    assert line.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    line.send(b"hello")
    assert line.answer().body == b"hello"
    line.send(request("/echo", method="POST", headers=b"Expect: 100-Continue\r\n", body=b"hello"))
    assert line.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert line.answer().body == b"hello"


def test_100_continue_is_not_sent_for_an_unread_body(line: RawConnection) -> None:
    line.send(request("/short", method="POST", headers=b"Expect: 100-continue\r\nContent-Length: 5\r\n"))
    assert line.answer().body == b"ok"
    line.send(b"hello" + request("/short"))
    assert line.answer().body == b"ok"


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 1_000_000])
def test_bodies_arrive_complete(line: RawConnection, size: int) -> None:
    body = bytes(range(251)) * (size // 251 + 1)
    line.ask("/echo", method="POST", body=body[:size])
    assert line.answer().body == body[:size]


def test_a_body_arrives_byte_by_byte(line: RawConnection) -> None:
    line.send(request("/echo", method="POST", headers=b"Transfer-Encoding: chunked\r\n"))
    for byte in b"3\r\nabc\r\n2;more=x\r\nde\r\n0\r\n\r\n":
        line.send(bytes([byte]))
    assert line.answer().body == b"abcde"


def test_receive_reports_a_disconnect_after_the_body(application: Application, server: HttpServer) -> None:
    with RawConnection(server.port) as line:
        line.ask("/wait-to-leave")
        assert application.noted() == "waiting"
        assert not application.has_noted()
    assert [application.noted(), application.noted()] == [LEFT, LEFT]


def test_receive_ends_when_the_response_is_complete(application: Application, line: RawConnection) -> None:
    line.ask("/wait-to-answer")
    application.release()
    assert application.noted() is False
    assert application.noted() == LEFT
    assert line.answer().status == 200


def test_two_receiving_tasks_lose_nothing(application: Application, line: RawConnection) -> None:
    line.send(request("/two-receive", method="POST", headers=b"Content-Length: 10\r\n"))
    assert application.noted() == "waiting"
    line.send(b"hello")
    messages: list[dict[str, Any]] = application.noted()
    assert sorted(message["body"] for message in messages) == [b"", b"hello"]
    line.send(b"world")
    assert line.answer().body == b"helloworld"


def test_head_and_body_are_sent_together(line: RawConnection) -> None:
    for _ in range(20):
        line.ask("/short")
        assert line.arrival().endswith(b"\r\n\r\nok")
