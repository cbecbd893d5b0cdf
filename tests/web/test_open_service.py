"""Without keys, foreign web pages can't use the service."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.support.clients.browser import BROWSER, rendered
from tests.support.servers.gateway import LiveGateway
from tests.support.servers.served import Served, serve
from tests.support.servers.vendor import Vendor

V1 = "/v1/tasks"
EVIL = "https://evil.example"
BODY = b'{"prompt":"x"}'
CALLS = [
    ("POST", V1, "application/json"),
    ("POST", V1, "text/plain"),
    ("POST", V1, "application/x-www-form-urlencoded"),
    ("POST", V1, "multipart/form-data; boundary=x"),
    ("POST", V1, None),
    ("POST", "/v1/uploads", "image/png"),
    ("POST", "/v1/tokens", "text/plain"),
    ("POST", f"{V1}/task_0/cancel", None),
    ("POST", f"{V1}/task_0/retry", None),
    ("POST", "/v1/webhook-secret/rotate", None),
    ("DELETE", f"{V1}/task_0", None),
    ("GET", "/v1/webhook-secret", None),
    ("GET", "/v1/events", None),
    ("GET", "/nowhere", None),
    ("OPTIONS", V1, None),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    with serve(f"sqlite:///{directory / 'test.db'}", directory) as served:
        yield served


def call(served: Served, method: str, path: str, media_type: str | None, **headers: str) -> httpx.Response:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if media_type is not None:
        given["Content-Type"] = media_type
    return served.client.request(method, path, content=BODY if media_type else None, headers=given)


@pytest.mark.parametrize(("method", "path", "media_type"), CALLS)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "no-cors"},
        {"Host": "evil.example"},
        {"Host": "localhost@evil.example"},
        {"Host": "evil.example/localhost"},
        {"Host": "localhost evil.example"},
    ],
    ids=str,
)
def test_pages_of_other_origins_are_rejected(
    served: Served, method: str, path: str, media_type: str | None, headers: dict[str, str]
) -> None:
    answer = call(served, method, path, media_type, **headers)
    assert answer.status_code == 403
    assert answer.json()["code"] in {"origin_not_allowed", "host_not_allowed"}
    assert served.vendor.submits == []


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_json_must_be_declared(served: Served, media_type: str | None) -> None:
    headers = {} if media_type is None else {"Content-Type": media_type}
    answer = served.client.post(V1, content=BODY, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_links_and_images_work_from_other_origins(served: Served) -> None:
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert call(served, "GET", "/docs", None, **link).status_code == 200
    assert call(served, "POST", V1, "application/json", **link).status_code == 403
    image = call(served, "GET", "/v1/images/img_0", None, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")
    assert image.status_code == 404
    for site in ("same-origin", "none"):
        assert call(served, "GET", V1, None, Sec_Fetch_Site=site).status_code == 200


def test_named_origins_and_the_public_one_are_allowed(tmp_path: Path) -> None:
    settings = {
        "auth": "none",
        "secret_key": "test-secret",
        "public_base_url": "https://images.example",
        "cors_origins": "https://shop.example",
        "allowed_hosts": "127.0.0.1, *.inner.example",
    }
    with LiveGateway(data_dir=tmp_path, upstream_url="http://127.0.0.1:1", **settings) as gateway:
        for origin, status in (
            ("https://images.example", 200),
            ("https://shop.example", 200),
            ("http://127.0.0.1:3000", 403),
            ("http://images.example", 403),
            (EVIL, 403),
        ):
            assert gateway.client.get(V1, headers={"Origin": origin}).status_code == status, origin
        for host, status in (("a.inner.example:1", 200), ("A.B.inner.example.", 200), ("inner.example", 403)):
            assert gateway.client.get(V1, headers={"Host": host}).status_code == status, host
        assert gateway.client.get(V1, headers={"Host": "images.example"}).status_code == 200


def test_the_public_host_is_allowed_in_addition_to_loopback(tmp_path: Path) -> None:
    settings = {"auth": "none", "secret_key": "test-secret", "public_base_url": "https://Images.example:8443/x"}
    with LiveGateway(data_dir=tmp_path, upstream_url="http://127.0.0.1:1", **settings) as gateway:
        for host, status in (("images.example", 200), ("images.example:1", 200), ("a.images.example", 403)):
            assert gateway.client.get(V1, headers={"Host": host}).status_code == status, host
        assert gateway.client.get(V1).status_code == 200


HOSTILE = """<!doctype html><meta charset="utf-8"><body><pre id="log"></pre>
<iframe name="sink"></iframe>
<form id="form" method="post" enctype="text/plain" target="sink" action="TARGET/v1/tasks">
  <input name='{"prompt":"form","x":"' value='"}'></form>
<script>
const target = "TARGET", read = [];
const json = { "Content-Type": "application/json" }, body = JSON.stringify({ prompt: "fetch" });
const tries = [
  fetch(target + "/v1/tasks", { method: "POST", headers: json, body }),
  fetch(target + "/v1/tasks", { method: "POST", body }),
  fetch(target + "/v1/tasks", { method: "POST", mode: "no-cors", body }),
  fetch(target + "/v1/webhook-secret/rotate", { method: "POST", mode: "no-cors" }),
  fetch(target + "/v1/tasks"),
  fetch(target + "/v1/webhook-secret"),
].map((answer) => answer.then((a) => a.text()).then((text) => text && read.push(text), () => {}));
document.getElementById("form").submit();
navigator.sendBeacon(target + "/v1/tasks", body);
const image = new Image();
const loaded = new Promise((resolve) => { image.onload = image.onerror = resolve; });
image.src = target + "/v1/tasks";
const stream = new EventSource(target + "/v1/events");
const streamed = new Promise((resolve) => { stream.onopen = () => resolve(read.push("stream")); stream.onerror = resolve; });
Promise.all([...tries, loaded, streamed]).then(() => {
  document.getElementById("log").textContent = "read " + read.length + " of " + tries.length;
});
</script>"""


@contextmanager
def page(html: str) -> Iterator[int]:
    """Serve a page on a free port; yields the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_hostile_page_in_a_browser_achieves_nothing(served: Served, tmp_path: Path, host: str) -> None:
    """The page is on another port, or on another site."""
    secret = served.client.get("/v1/webhook-secret").json()
    with page(HOSTILE.replace("TARGET", served.gateway.settings.local_url)) as port:
        seen = rendered(f"http://{host}:{port}/", tmp_path)
    assert "read 0 of 6" in seen
    assert served.client.get(V1).json()["data"] == []
    assert served.client.get("/v1/webhook-secret").json() == secret
    assert served.vendor.submits == []


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="Chromium is not installed")
def test_swagger_ui_works_under_its_policy(served: Served, tmp_path: Path) -> None:
    seen = rendered(f"{served.gateway.settings.local_url}/docs", tmp_path)
    assert "opblock-summary-post" in seen
    assert "/v1/tasks/{task_id}/cancel" in seen.replace("\u200b", "").replace("<wbr>", "")


@pytest.mark.parametrize("headers", [{"Host": "images.example"}, {"Origin": EVIL}])
def test_without_a_database_requests_get_503(tmp_path: Path, vendor: Vendor, headers: dict[str, str]) -> None:
    with LiveGateway(data_dir=tmp_path, upstream_url=vendor.url) as gateway:
        with closing(sqlite3.connect(tmp_path / "gateway.db")) as database:
            database.execute("ALTER TABLE api_keys RENAME TO elsewhere")
        answer = gateway.client.get(V1, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
