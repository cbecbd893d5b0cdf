"""A scriptable vendor over real HTTP, which records all requests."""

import json
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from tests.support.clients.connections import KEPT_BRIEFLY
from tests.support.records import Records

RECORD_INFO, CREDIT = "/api/v1/nanobanana/record-info", "/api/v1/common/credit"


@dataclass(frozen=True)
class Reply:
    """A scripted response; `hang_up` closes the connection after `delay` seconds."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    hang_up: bool = False
    gate: threading.Event | None = None
    """Delays the response until the test sets it."""

    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Submit:
    """A received submit."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    at: float

    @property
    def callback_url(self) -> str:
        return str(self.body["callBackUrl"])


def accepted(upstream_id: str | None = None) -> Reply:
    return Reply({"code": 200, "msg": "success", "data": {"taskId": upstream_id or uuid.uuid4().hex}})


def envelope(code: int, message: str = "no", *, status: int = 200, **headers: str) -> Reply:
    return Reply(
        {"code": code, "msg": message}, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def record(upstream_id: str, flag: Any, **more: Any) -> Reply:
    data = {"taskId": upstream_id, "successFlag": flag, "response": None, "errorCode": None, "errorMessage": None}
    return Reply({"code": 200, "msg": "success", "data": {**data, **more}})


def success_a(upstream_id: str, url: str = "https://tempfile.example/a.png") -> dict[str, Any]:
    return {
        "code": 200,
        "msg": "Image generated successfully.",
        "data": {"taskId": upstream_id, "info": {"resultImageUrl": url}},
    }


class Vendor:
    """The vendor; by default, accepted tasks keep generating."""

    def __init__(self, port: int = 0) -> None:
        self.submits: list[Submit] = []
        self.polls: list[tuple[str, float]] = []
        self.on_submit: Callable[[Submit], Reply] = lambda _: accepted()
        self.on_poll: Callable[[str], Reply] = lambda upstream_id: record(upstream_id, 0)
        self.on_credit: Callable[[], Reply] = lambda: Reply({"code": 200, "msg": "success", "data": 100})
        # Creating a client costs more than a hundred calls, mostly for certificates that tests don't need.
        self._http = httpx.Client(verify=False, timeout=30, limits=KEPT_BRIEFLY)  # noqa: S501 -- plain HTTP on this machine
        self._records = Records()
        self.is_closed = False
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def script(self, *replies: Reply) -> None:
        """Send these responses to the next submits, then accept."""
        left = list(replies)
        lock = threading.Lock()

        def answer(_: Submit) -> Reply:
            with lock:
                return left.pop(0) if left else accepted()

        self.on_submit = answer

    def wait_for_submits(self, count: int, seconds: float = 15.0) -> list[Submit]:
        return self._records.wait_for(
            lambda: list(self.submits) if len(self.submits) >= count else None,
            seconds=seconds,
            what=f"submit {count}",
        )

    def wait_for_submit_of(self, task_id: str) -> Submit:
        """Wait for a task's submit."""
        bare = task_id.removeprefix("task_")
        return self._records.wait_for(
            lambda: next((one for one in self.submits if bare in one.callback_url), None), what=f"submit of {task_id}"
        )

    def wait_for_polls(self, count: int, upstream_id: str | None = None) -> list[tuple[str, float]]:
        """Wait for `count` polls, optionally about one task.

        Returns upstream ids and monotonic times.
        """

        def look() -> list[tuple[str, float]] | None:
            found = [poll for poll in self.polls if upstream_id in {None, poll[0]}]
            return found if len(found) >= count else None

        return self._records.wait_for(look, what=f"poll {count}")

    def call_back(self, submit: Submit, body: Any) -> httpx.Response:
        """POST to a submit's callback URL."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._http.post(submit.callback_url, content=content, headers={"Content-Type": "application/json"})

    def close(self) -> None:
        self.is_closed = True
        self._http.close()
        self._server.shutdown()
        self._server.server_close()

    def _read(self, path: str) -> Reply:
        parts = urlsplit(path)
        if parts.path == CREDIT:
            return self.on_credit()
        assert parts.path == RECORD_INFO, path
        upstream_id = parse_qs(parts.query)["taskId"][0]
        with self._records:
            self.polls.append((upstream_id, time.monotonic()))
        return self.on_poll(upstream_id)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                submit = Submit(self.path, body, dict(self.headers), time.monotonic())
                with vendor._records:
                    vendor.submits.append(submit)
                self._answer(vendor.on_submit(submit))

            def do_GET(self) -> None:
                self._answer(vendor._read(self.path))

            def _answer(self, reply: Reply) -> None:
                if reply.gate is not None:
                    reply.gate.wait(30)
                if reply.delay:
                    time.sleep(reply.delay)
                if reply.hang_up:
                    self.close_connection = True
                    return
                content = reply.content()
                try:
                    self.send_response(reply.status)
                    for name, value in reply.headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
                pass

        return Handler
