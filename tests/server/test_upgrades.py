"""Protocol upgrades are ignored.

If they weren't, a body could be parsed as the next request.
"""

import pytest

from tests.support.clients.raw_connection import RawConnection, request

BODY = b"GET /short HTTP/1.1\r\nHost: localhost\r\n\r\n"
"""A body that is also a valid request."""
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
IN_CHUNKS = b"5\r\n%b\r\n%x;x=y\r\n%b\r\n0\r\nX: y\r\n\r\n" % (BODY[:5], len(BODY) - 5, BODY[5:])


def offering(headers: bytes, *, method: str = "POST", path: str = "/echo") -> bytes:
    return request(path, method=method, headers=headers)


OFFERS = [
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n",
    b"Upgrade: anything/1.0, h2c\r\nconnection: keep-alive,  upgrade\r\n",
    b"CONNECTION: keep-alive\r\nuPGRADE: h2c\r\nConnection: uPGRADE\r\n",
    b"Proxy-Connection: Upgrade\r\nUpgrade: h2c\r\n",
    b"Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\nUpgrade:\r\n",
]


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize(("framing", "body"), [(LENGTH, BODY), (CHUNKED, IN_CHUNKS)])
@pytest.mark.parametrize("is_offer_first", [True, False])
@pytest.mark.parametrize("piece", [1, 7, 1_000_000])
def test_the_body_is_read_in_any_segmentation(
    line: RawConnection, offer: bytes, framing: bytes, body: bytes, is_offer_first: bool, piece: int
) -> None:
    head = offering(offer + framing if is_offer_first else framing + offer)
    sent = head + body
    for start in range(0, len(sent), piece):
        line.send(sent[start : start + piece])
    assert line.answer().body == BODY
    line.ask("/short")
    assert line.answer().body == b"ok"


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_an_upgrade_without_a_body_gets_a_response(line: RawConnection, offer: bytes, method: str) -> None:
    for _ in range(2):
        line.send(offering(offer, method=method, path="/short"))
        assert line.answer(without_body=method == "HEAD").status == 200


@pytest.mark.parametrize("offer", OFFERS)
def test_the_body_waits_for_100_continue(line: RawConnection, offer: bytes) -> None:
    line.send(offering(offer + LENGTH + b"Expect: 100-continue\r\n"))
    assert line.read(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
    line.send(BODY)
    assert line.answer().body == BODY


def test_the_rest_of_a_body_is_not_a_request(line: RawConnection) -> None:
    line.send(offering(OFFERS[0] + b"Content-Length: %d\r\n" % (len(BODY) * 100), path="/short"))
    assert line.answer().body == b"ok"
    for _ in range(100):
        line.send(BODY)
    line.ask("/echo", method="POST", body=b"hello")
    assert line.answer().body == b"hello"


@pytest.mark.parametrize("old", [b"GET /short HTTP/1.0\r\n", b"POST /echo HTTP/1.0\r\n" + LENGTH])
def test_an_upgrade_in_http_1_0(line: RawConnection, old: bytes) -> None:
    line.send(old + OFFERS[0] + b"\r\n" + BODY)
    assert line.answer().body == (BODY if LENGTH in old else b"ok")
    assert line.rest() == b""


def test_a_pipelined_request_after_an_upgrade_is_dropped_like_any_other(line: RawConnection) -> None:
    line.send(offering(OFFERS[0], method="GET", path="/short") + BODY)
    answer = line.answer()
    assert answer.body == b"ok"
    assert line.rest() == b""


@pytest.mark.parametrize(
    "framing",
    [
        LENGTH + CHUNKED,
        CHUNKED + LENGTH,
        LENGTH + b"Content-Length: 1\r\n",
        b"Content-Length: +5\r\n",
        b"Content-Length: 5 5\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Content-Length: 5\r\n folded\r\n",
        b"Upgrade : h2c\r\n",
    ],
)
@pytest.mark.parametrize("offer", [b"", *OFFERS])
def test_ambiguous_framing_is_refused(line: RawConnection, offer: bytes, framing: bytes) -> None:
    line.send(offering(offer + framing) + BODY)
    assert line.answer().problem == (400, "malformed_request")
    assert line.rest() == b""


@pytest.mark.parametrize(
    "sent",
    [
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n" + OFFERS[0] + LENGTH + b"\r\n",
        b"CONNECT /short HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_connect_is_refused(line: RawConnection, sent: bytes) -> None:
    line.send(sent + BODY)
    assert line.answer().problem == (400, "malformed_request")
    assert line.rest() == b""


def test_trailers_do_not_upgrade(line: RawConnection) -> None:
    line.send(offering(CHUNKED) + b"5\r\nhello\r\n0\r\n" + OFFERS[0] + b"\r\n")
    assert line.answer().body == b"hello"
    line.ask("/echo", method="POST", body=BODY)
    assert line.answer().body == BODY


def test_limits_apply_to_a_head_with_an_upgrade(line: RawConnection) -> None:
    line.send(offering(OFFERS[0] + b"X: " + b"y" * 33_000 + b"\r\n"))
    assert line.answer().problem == (431, "headers_too_large")


def test_an_upgrade_does_not_allow_a_second_host(line: RawConnection) -> None:
    line.send(offering(OFFERS[0] + b"Host: other\r\n"))
    assert line.answer().problem == (400, "malformed_request")
