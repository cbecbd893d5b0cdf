"""An image server with responses controlled byte by byte."""

import contextlib
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from tests.support.records import Records

Send = Callable[[bytes], None]
Answer = bytes | Callable[[Send], None]
"""Raw bytes, or a function that sends them; then the connection closes."""


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as received, with lowercase header names."""

    path: str
    headers: dict[str, str]


class Source:
    """Responds to each path as scripted, to others with 404."""

    def __init__(self) -> None:
        self.asked: list[ReceivedRequest] = []
        self.answers: dict[str, Answer] = {}
        self.sent_bytes = 0
        self.closing = threading.Event()
        self._records = Records()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def on(self, path: str, answer: Answer) -> str:
        """Script a path's response; return its URL."""
        self.answers[path] = answer
        return self.origin + path

    def wait_for(self, path: str) -> None:
        """Wait until a path has been requested."""
        self._records.wait_for(lambda: any(one.path == path for one in self.asked), what=f"the request of {path}")

    def wait_for_count(self, count: int) -> None:
        """Wait until this many requests have arrived."""
        self._records.wait_for(lambda: len(self.asked) >= count, what=f"request {count}")

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _handler(self) -> type[socketserver.StreamRequestHandler]:
        source = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                lines = []
                while (line := self.rfile.readline()) not in {b"", b"\r\n"}:
                    lines.append(line.decode("latin-1").rstrip("\r\n"))
                if not lines:
                    return
                headers = dict(line.lower().split(": ", 1) for line in lines[1:])
                path = lines[0].split(" ")[1]
                with source._records:
                    source.asked.append(ReceivedRequest(path, headers))
                answer = source.answers.get(path, reply(b"", status="404 Not Found"))
                with contextlib.suppress(OSError):  # the gateway disconnected
                    if isinstance(answer, bytes):
                        self._send(answer)
                    else:
                        answer(self._send)

            def _send(self, content: bytes) -> None:
                self.wfile.write(content)
                source.sent_bytes += len(content)

        return Handler


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def reply(body: bytes, *, status: str = "200 OK", length: int | None = -1, **headers: str) -> bytes:
    """Encode a response; `length` overrides `Content-Length`.

    None omits the header, and -1 sends the real length.
    """
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    if length is not None:
        lines.append(f"Content-Length: {len(body) if length < 0 else length}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
