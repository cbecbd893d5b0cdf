"""A scriptable webhook receiver over real HTTP."""

import contextlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.records import Records

_CHUNK = b"x" * 65536


@dataclass(frozen=True)
class ReceiverReply:
    """A scripted response.

    `gate` delays the response until it is set, `endless` sends an infinite body, and `hang_up` closes the connection.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    gate: threading.Event | None = None
    endless: bool = False
    hang_up: bool = False


@dataclass(frozen=True)
class ReceivedWebhook:
    """A webhook as received, with lowercase header names."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.body)
        return content

    @property
    def task_id(self) -> str:
        return str(self.json["data"]["id"])


class Receiver:
    """Responds 200 by default; can restart at the same address."""

    def __init__(self) -> None:
        self.arrived: list[ReceivedWebhook] = []
        self.on_post: Callable[[ReceivedWebhook], ReceiverReply] = lambda _: ReceiverReply()
        self.sent_bytes = 0
        self._records = Records()
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/hook"

    @property
    def is_up(self) -> bool:
        return self._server is not None

    def start(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler())
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Stop the server, so that connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def script(self, *answers: ReceiverReply) -> None:
        """Send these responses to the next webhooks, then 200."""
        left = list(answers)
        lock = threading.Lock()

        def answer(_: ReceivedWebhook) -> ReceiverReply:
            with lock:
                return left.pop(0) if left else ReceiverReply()

        self.on_post = answer

    def of(self, task_id: str) -> list[ReceivedWebhook]:
        """Return the webhooks about a task, in order."""
        with self._records:
            return [one for one in self.arrived if one.task_id == task_id]

    def wait_for(self, count: int, task_id: str | None = None, seconds: float = 15.0) -> list[ReceivedWebhook]:
        """Wait for `count` webhooks, optionally about one task."""

        def look() -> list[ReceivedWebhook] | None:
            found = [one for one in self.arrived if task_id is None or one.task_id == task_id]
            return found if len(found) >= count else None

        return self._records.wait_for(look, seconds=seconds, what=f"webhook {count}")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                body = self.rfile.read(length)
                if len(body) < length:  # the sender died midway; no server would pass on the partial request
                    self.close_connection = True
                    return
                headers = {name.lower(): value for name, value in self.headers.items()}
                one = ReceivedWebhook(self.path, headers, body, time.monotonic())
                with receiver._records:
                    receiver.arrived.append(one)
                scripted = receiver.on_post(one)
                if scripted.gate is not None:
                    scripted.gate.wait(60)
                self.close_connection = True
                if scripted.hang_up:
                    return
                with contextlib.suppress(OSError):  # the gateway disconnected
                    self._answer(scripted)

            def _answer(self, scripted: ReceiverReply) -> None:
                self.send_response(scripted.status)
                for name, value in scripted.headers.items():
                    self.send_header(name, value)
                if not scripted.endless:
                    self.send_header("Content-Length", str(len(scripted.body)))
                self.end_headers()
                self.wfile.write(scripted.body)
                while scripted.endless:
                    self.wfile.write(_CHUNK)
                    receiver.sent_bytes += len(_CHUNK)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
                pass

        return Handler
