"""CORS for pages of allowed origins."""

from collections.abc import Iterator

import httpx
import pytest

from tests.support.servers.served import Served, serve
from tests.support.servers.vendor import envelope

SHOP = "https://shop.example"
KEY = "bootstrap-key-0123456789-abcdef"
BEARER = {"Authorization": f"Bearer {KEY}"}
EXPOSED = {"x-request-id", "location", "retry-after", "idempotent-replayed", "preference-applied", "etag"}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    settings = {"cors_origins": f"{SHOP}, HTTP://localhost:3000/", "bootstrap_api_key": KEY}
    with serve(f"sqlite:///{directory / 'test.db'}", directory, **settings) as served:
        yield served


def preflight(served: Served, path: str, method: str, origin: str = SHOP, **headers: str) -> httpx.Response:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    asked |= {name.replace("_", "-"): value for name, value in headers.items()}
    return served.client.options(path, headers=asked)


@pytest.mark.parametrize("origin", [SHOP, "http://localhost:3000"])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/tasks"), ("GET", "/v1/events"), ("DELETE", "/v1/tasks/x"), ("POST", "/nowhere")]
)
def test_a_named_origin_is_allowed(served: Served, origin: str, method: str, path: str) -> None:
    wanted = "authorization,content-type,idempotency-key,prefer,traceparent"
    answer = preflight(served, path, method, origin, Access_Control_Request_Headers=wanted)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == origin
    assert method in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == wanted
    assert int(answer.headers["access-control-max-age"]) > 0
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://shop.example", f"{SHOP}.evil.example"])
def test_another_origin_is_rejected(served: Served, origin: str) -> None:
    answer = preflight(served, "/v1/tasks", "POST", origin)
    assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed")
    assert "access-control-allow-origin" not in answer.headers
    # With a key, any client may call, but a page of another origin can't read the response.
    answer = served.client.get("/v1/tasks", headers={**BEARER, "Origin": origin})
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_an_unused_method_is_rejected(served: Served) -> None:
    assert preflight(served, "/v1/tasks", "PUT").status_code == 403


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/v1/tasks", BEARER, 202),
        ("POST", "/v1/tasks", {}, 401),
        ("GET", "/v1/tasks", {**BEARER, "Prefer": "x"}, 200),
        ("GET", "/v1/tasks?limit=0", BEARER, 422),
        ("GET", "/v1/tasks/task_0", BEARER, 404),
        ("GET", "/nowhere", {}, 404),
        ("PUT", "/v1/tasks", BEARER, 405),
        ("POST", "/v1/tasks", {**BEARER, "Content-Type": "text/plain"}, 415),
        ("POST", "/v1/webhook-secret/rotate", {**BEARER, "Content-Length": "100000"}, 413),
        ("GET", "/healthz", {}, 200),
    ],
)
def test_every_response_is_readable(
    served: Served, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    content = b"x" * 100_000 if status == 413 else b'{"prompt":"x"}'
    given = {"Content-Type": "application/json", "Origin": SHOP, **headers}
    answer = served.client.request(method, path, headers=given, content=content if method == "POST" else None)
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert "Origin" in answer.headers["vary"]
    assert set(answer.headers["access-control-expose-headers"].lower().split(", ")) >= EXPOSED
    assert answer.headers["x-request-id"]


def test_a_stream_is_readable(served: Served) -> None:
    served.vendor.on_submit = lambda _: envelope(400, "no")
    task = served.client.post("/v1/tasks", json={"prompt": "x"}, headers=BEARER).json()
    with served.follow(f"/v1/tasks/{task['id']}/events", Origin=SHOP, **BEARER) as stream:
        assert stream.headers["access-control-allow-origin"] == SHOP
        stream.wait_for_end()


def test_responses_vary_by_origin_even_without_one(served: Served) -> None:
    assert "Origin" in served.client.get("/v1/tasks", headers=BEARER).headers["vary"]


def test_there_are_no_cors_headers_by_default(on_sqlite: Served) -> None:
    own = on_sqlite.gateway.settings.local_url
    answer = on_sqlite.client.get("/v1/tasks", headers={"Origin": own})
    assert answer.status_code == 200
    assert [name for name in answer.headers if name.startswith("access-") or name == "vary"] == []
    assert preflight(on_sqlite, "/v1/tasks", "POST", own).status_code == 405


def test_callbacks_never_allow_pages(served: Served) -> None:
    path = "/callbacks/nanobanana/nonsense"
    assert preflight(served, path, "POST").status_code == 405
    for body in (b"{}", iter([b"{}"])):
        answer = served.client.post(path, content=body, headers={"Origin": SHOP})
        assert answer.status_code == 404
        assert not any(name.startswith("access-control-") for name in answer.headers)
