"""Response headers for browsers, and the client address behind proxies."""

from ipaddress import ip_network
from pathlib import Path

import pytest

from app.web.headers import ResponseHeaders, client_address
from tests.support.servers.gateway import LiveGateway
from tests.support.servers.served import Served
from tests.support.servers.vendor import success_a

NETWORKS = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/tasks"),
        ("GET", "/v1/tasks/task_0"),
        ("POST", "/v1/tasks"),
        ("GET", "/v1/webhook-secret"),
        ("PUT", "/healthz"),
        ("GET", "/nowhere"),
        ("GET", "/"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
    ],
)
def test_every_response_has_headers_for_browsers(on_sqlite: Served, method: str, path: str) -> None:
    answer = on_sqlite.client.request(method, path)
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers.get_list("x-frame-options") == ["DENY"]
    assert answer.headers.get_list("referrer-policy") == ["no-referrer"]
    (policy,) = answer.headers.get_list("content-security-policy")
    assert policy.startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in policy
    assert answer.headers.get_list("cache-control") == ["no-cache" if path == "/docs" else "no-store"]
    assert "strict-transport-security" not in answer.headers
    assert "server" not in answer.headers


def test_a_response_to_a_callback_has_few_headers(on_sqlite: Served) -> None:
    task, submit = on_sqlite.processing()
    answer = on_sqlite.call_back(submit, success_a(task["upstream_task_id"]))
    assert set(answer.headers) == {
        "date",
        "content-length",
        "content-type",
        "x-content-type-options",
        "x-request-id",
    }


def test_hsts_is_sent_for_an_https_origin(tmp_path: Path) -> None:
    settings = {"public_base_url": "https://images.example", "auth": "keys", "secret_key": "test-secret"}
    with LiveGateway(data_dir=tmp_path, upstream_url="http://127.0.0.1:1", **settings) as gateway:
        assert "max-age=" in gateway.client.get("/v1/tasks").headers["strict-transport-security"]


def test_headers_of_the_response_take_precedence() -> None:
    stated = [(b"cache-control", b"private, max-age=86400"), (b"content-type", b"image/png")]
    headers = ResponseHeaders(is_https=False).complete(stated)
    assert headers[:2] == stated
    assert [name for name, _ in headers].count(b"cache-control") == 1
    assert (b"x-content-type-options", b"nosniff") in headers


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["192.0.2.66, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["192.0.2.66", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, \x00"], "10.0.0.1"),
    ],
)
def test_only_trusted_proxies_name_the_client(peer: str, forwarded: list[str], client: str) -> None:
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    assert client_address({"client": (peer, 1), "headers": headers}, NETWORKS) == client


def test_without_trusted_proxies_the_peer_is_the_client() -> None:
    assert client_address({"client": ("10.0.0.1", 1), "headers": [(b"x-forwarded-for", b"8.8.8.8")]}, []) == "10.0.0.1"
    assert client_address({"client": None, "headers": []}, []) is None
