"""The webhook client over real connections: responses and forbidden destinations."""

import asyncio
import contextlib
import email.utils
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from http import HTTPStatus
from ipaddress import ip_network
from pathlib import Path
from typing import Self

import pytest
import trustme

from app.domain.delivery import DeliveryResponse
from app.domain.destination import DestinationRules
from app.outbound.connect import resolve_host
from app.outbound.urls import problem_with
from app.webhooks.client import WebhookClient
from tests.support.servers.webhook_receiver import Receiver, ReceiverReply

LOOPBACK = DestinationRules([ip_network("127.0.0.0/8")])


class Names:
    """A scripted resolver: each lookup takes the next answer.

    The last answer is repeated.
    """

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


def post(
    url: str,
    *,
    rules: DestinationRules = LOOPBACK,
    resolve: Names | None = None,
    timeout: float = 10,
    times: int = 1,
) -> list[DeliveryResponse]:
    async def work() -> list[DeliveryResponse]:
        client = WebhookClient(rules, resolve=resolve, timeout=timeout)
        answers = [await client.post(url, b'{"a":1}', {"webhook-id": "whd_1"}) for _ in range(times)]
        await client.aclose()
        return answers

    return asyncio.run(work())


def test_request_and_response(receiver: Receiver) -> None:
    receiver.script(ReceiverReply(202, b"thanks"))
    (answer,) = post(f"{receiver.url}?a=%20b&c=ü#part")
    assert answer == DeliveryResponse(202, None, b"thanks")
    (arrived,) = receiver.arrived
    assert arrived.path == "/hook?a=%20b&c=%C3%BC"
    assert arrived.body == b'{"a":1}'
    assert arrived.headers["host"] == receiver.url.split("/")[2]
    assert arrived.headers["content-type"] == "application/json"
    assert arrived.headers["webhook-id"] == "whd_1"
    assert arrived.headers["user-agent"].startswith("nanobanana-gateway/")
    assert "cookie" not in arrived.headers
    assert "authorization" not in arrived.headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(receiver: Receiver, status: int) -> None:
    receiver.on_post = lambda _: ReceiverReply(status, headers={"Location": receiver.url})
    (answer,) = post(receiver.url)
    assert not answer.is_success
    assert answer.status == status
    assert "redirect" in (answer.error or "")
    assert len(receiver.arrived) == 1


def test_a_receiver_that_does_not_respond_times_out(receiver: Receiver) -> None:
    gate = threading.Event()
    receiver.on_post = lambda _: ReceiverReply(gate=gate)
    (answer,) = post(receiver.url, timeout=0.3)
    gate.set()
    assert answer == DeliveryResponse(None, "No response within 0.3 s.")


def test_only_the_start_of_an_endless_body_is_read(receiver: Receiver) -> None:
    receiver.on_post = lambda _: ReceiverReply(body=b"begin", endless=True)
    (answer,) = post(receiver.url)
    assert answer.is_success
    assert answer.response == b"begin" + b"x" * 1019
    assert receiver.sent_bytes < 50 * 2**20


def test_a_missing_body_does_not_change_the_status() -> None:
    with Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc") as raw:
        (answer,) = post(raw.url, timeout=0.5)
    assert answer.is_success


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 2",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 300_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 3,
    ],
    ids=["nothing", "half", "another protocol", "huge header", "wrong length", "only interim"],
)
def test_nonsense_is_not_a_response(reply: bytes) -> None:
    with Raw(reply) as raw:
        (answer,) = post(raw.url, timeout=3)
    assert answer.status is None
    assert answer.error


def test_a_closed_port_is_reported(receiver: Receiver) -> None:
    url = receiver.url
    receiver.stop()
    (answer,) = post(url)
    assert answer.status is None
    assert "ConnectError" in (answer.error or "")


@pytest.mark.parametrize("text", ["30", " 30 ", "0000000000030", "date"])
def test_retry_after_is_read_as_seconds_and_as_a_date(receiver: Receiver, text: str) -> None:
    value = email.utils.formatdate(time.time() + 30.5, usegmt=True) if text == "date" else text
    receiver.on_post = lambda _: ReceiverReply(503, headers={"Retry-After": value})
    (answer,) = post(receiver.url)
    assert answer.retry_after is not None
    assert 28_000 < answer.retry_after <= 30_500


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
        ("9" * 400, 999_999_999_000),
        (f"Mon, 20 Nov {'9' * 20} 00:00:00 GMT", None),
        (f"Mon, 20 Nov 2030 19:12:08 -{'9' * 13}", None),
    ],
)
def test_odd_retry_after_headers(receiver: Receiver, text: str, expected: int | None) -> None:
    receiver.on_post = lambda _: ReceiverReply(503, headers={"Retry-After": text})
    (answer,) = post(receiver.url)
    assert (answer.status, answer.retry_after) == (503, expected)


def test_a_name_with_private_addresses_is_never_connected_to(receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", "rebound.example")
    (answer,) = post(url, rules=DestinationRules(), resolve=Names(["127.0.0.1", "::1", "10.0.0.1"]))
    assert answer.status is None
    assert "DestinationRefused" in (answer.error or "")
    assert "127.0.0.1" not in (answer.error or "")
    assert receiver.arrived == []


def test_the_address_checked_is_the_address_connected_to() -> None:
    """DNS rebinding fails, because each request resolves names only once."""
    # 127.0.0.9, where nothing listens, represents the public internet.
    rules = DestinationRules([ip_network("127.0.0.9")])
    with Raw(b"HTTP/1.1 200 OK\r\n\r\n") as raw:
        url = raw.url.replace("127.0.0.1", "rebound.example")
        names = Names(["127.0.0.9"], ["127.0.0.1"])
        (first,) = post(url, rules=rules, resolve=names)
        assert names.asked == ["rebound.example"]
        (second,) = post(url, rules=rules, resolve=names)
        assert names.asked == ["rebound.example"] * 2
    assert "All connection attempts failed" in (first.error or "")
    assert "DestinationRefused" in (second.error or "")
    assert raw.connections == 0


def test_only_allowed_addresses_of_a_name_are_tried(receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", "mixed.example")
    rules = DestinationRules([ip_network("127.0.0.1/32")])
    answers = post(url, rules=rules, resolve=Names(["::1", "10.0.0.1", "127.0.0.2", "127.0.0.1"]))
    assert [answer.status for answer in answers] == [200]
    assert receiver.arrived[0].headers["host"].startswith("mixed.example:")


def test_the_next_address_is_tried_when_one_does_not_answer(receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", "two.example")
    answers = post(url, resolve=Names(["127.0.0.9", "127.0.0.1"]))
    assert [answer.status for answer in answers] == [200]


def test_every_request_resolves_the_name_again(receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", "moved.example")
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    answers = post(url, resolve=names, times=2)
    assert [answer.status for answer in answers] == [200, None]
    assert len(receiver.arrived) == 1


def test_a_connection_is_reused_and_leads_where_it_was_checked() -> None:
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    with Keeping([200, 204, 500, 200]) as receiver:
        url = receiver.url.replace("127.0.0.1", "moved.example")
        answers = post(url, resolve=names, times=4)
        assert [answer.status for answer in answers] == [200, 204, 500, 200]
        assert receiver.connections == 1
    assert names.asked == ["moved.example"]


def test_no_other_name_or_port_gets_a_connection_that_is_open() -> None:
    async def work(url: str) -> list[DeliveryResponse]:
        client = WebhookClient(DestinationRules([ip_network("127.0.0.1")]), resolve=Names(["127.0.0.1"], ["10.0.0.1"]))
        answers = [
            await client.post(url.replace("127.0.0.1", name), b"{}", {}) for name in ("one.example", "two.example")
        ]
        await client.aclose()
        return answers

    with Keeping([200, 200]) as receiver:
        first, second = asyncio.run(work(receiver.url))
    assert first.status == 200
    assert "DestinationRefused" in (second.error or "")


def test_a_webhook_is_sent_anew_when_its_connection_closes_under_it() -> None:
    with Keeping([200, None, 200, 200]) as receiver:
        answers = post(receiver.url, times=3)
        assert [(answer.status, answer.error) for answer in answers] == [(200, None)] * 3
        # The second webhook was sent twice, once over the connection that closed.
        assert (receiver.connections, receiver.requests) == (3, 4)


def test_a_new_connection_that_closes_is_a_failure() -> None:
    with Keeping([None, 200]) as receiver:
        (answer,) = post(receiver.url)
        assert answer.status is None
        assert (receiver.connections, receiver.requests) == (1, 1)


def test_only_a_response_of_moderate_length_is_read_to_the_end() -> None:
    for length, connections in ((5_000, 1), (1_000_000, 2)):
        with Keeping([200, 200], body=b"x" * length) as receiver:
            answers = post(receiver.url, times=2)
            assert [answer.response for answer in answers] == [b"x" * 1024] * 2
            assert receiver.connections == connections


@pytest.mark.parametrize("host", ["2130706433", "0x7f.1", "127.1", "localhost"])
def test_unusual_spellings_of_addresses_are_checked(receiver: Receiver, host: str) -> None:
    (answer,) = post(receiver.url.replace("127.0.0.1", host), rules=DestinationRules())
    assert "DestinationRefused" in (answer.error or "")
    assert receiver.arrived == []
    (answer,) = post(receiver.url.replace("127.0.0.1", host))
    assert answer.status == 200


def test_proxies_from_the_environment_are_not_used(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    with Raw(b"HTTP/1.1 200 OK\r\n\r\n") as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert post(receiver.url)[0].status == 200
    assert proxy.connections == 0
    assert len(receiver.arrived) == 1


def test_a_name_that_does_not_resolve_is_reported() -> None:
    for host in ("nowhere.invalid", "a" * 64 + ".example", ".."):
        (answer,) = post(f"http://{host}/", timeout=5)
        assert answer.status is None
        assert answer.error


@pytest.mark.parametrize(("name", "trusted"), [("receiver.example", True), ("other.example", False)])
def test_the_tls_certificate_must_match_the_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, trusted: bool
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    certificate = tmp_path / "receiver.pem"
    authority.issue_cert("receiver.example").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", certificate=certificate) as raw:
        port = raw.url.rsplit(":", 1)[1]
        (answer,) = post(f"https://{name}:{port}/", resolve=Names(["127.0.0.1"]))
        assert raw.server_names == [name]
    assert answer.status == (200 if trusted else None)
    assert trusted or "certificate verify failed" in (answer.error or "")


def test_lookups_do_not_wait_for_each_other() -> None:
    gate = threading.Event()

    def no_answer(*_: object, **__: object) -> list[object]:
        gate.wait(20)
        raise OSError("no answer")

    async def work() -> list[str]:
        dead = [asyncio.ensure_future(resolve_host("dead.example", 80, getaddrinfo=no_answer)) for _ in range(100)]
        found = await resolve_host("127.0.0.1", 80)
        for one in dead:
            one.cancel()
        await asyncio.gather(*dead, return_exceptions=True)
        return found

    assert asyncio.run(work()) == ["127.0.0.1"]
    gate.set()


WRONG_URLS = {
    "http://user@receiver.example/": "user name",
    "http://user:pass@receiver.example/": "user name",
    "http://①②⑦.0.0.1/": "URL",
    "http://%31%32%37.0.0.1/": "host name",
    "http://receiver\\example/": "host name",
    f"http://{'a' * 254}/": "host name",
    "http://2130706433/": "private address",
    "http://0x7f.1:8000/x": "private address",
    "http://[::1]/": "private address",
    "http://[::ffff:10.0.0.1]/": "private address",
    "http://localhost:3000/": "private address",
    "https://metadata.localhost/": "private address",
    "http://169.254.169.254/latest/meta-data/": "private address",
    "http://192.168.1.1/": "private address",
}


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_url_with_a_private_address_is_rejected(url: str) -> None:
    assert WRONG_URLS[url] in (problem_with(url, DestinationRules()) or "")


@pytest.mark.parametrize(
    "url",
    [
        "https://receiver.example/hook?token=a%20b",
        "http://receiver.example:8080",
        "https://müller.example/ü",
        "https://xn--ls8h.example/",  # valid before IDNA 2008, and still resolves
        "https://a_b.example/",
        "http://1.1.1.1/",
        "http://[2606:4700:4700::1111]:444/",
    ],
)
def test_a_plain_url_has_no_problem(url: str) -> None:
    assert problem_with(url, DestinationRules()) is None


class Raw:
    """A server that sends fixed bytes on each connection."""

    def __init__(self, reply: bytes, *, certificate: Path | None = None) -> None:
        self._reply = reply
        self.connections = 0
        self.server_names: list[str] = []
        self._context = self._make_context(certificate) if certificate else None
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _make_context(self, certificate: Path) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        context.sni_callback = lambda _socket, name, _context: self.server_names.append(str(name))
        return context

    def _serve(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
                self.connections += 1
                if self._context is not None:
                    connection = self._context.wrap_socket(connection, server_side=True)
                with connection:
                    connection.recv(65536)
                    connection.sendall(self._reply)
                    if self._reply:
                        self._closing.wait(1)
            except OSError:
                continue


class Keeping:
    """A receiver that keeps connections open.

    It answers each request with the next status. None closes the connection.
    """

    def __init__(self, statuses: Sequence[int | None], *, body: bytes = b"") -> None:
        self.connections = 0
        self.requests = 0
        self._statuses = iter(statuses)
        self._body = body
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/hook"

    def __enter__(self) -> Self:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as reading:
            while line := reading.readline():
                length = 0
                while line.strip():
                    name, _, value = line.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                    line = reading.readline()
                reading.read(length)
                self.requests += 1
                status = next(self._statuses)
                if status is None:
                    return
                body = b"" if status == HTTPStatus.NO_CONTENT else self._body
                connection.sendall(b"HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
