"""A real HTTP server that receives callbacks."""

import json
import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """Records callbacks; responds with `statuses`, then with 200.

    Status 0 sends no response.
    """

    def __init__(self) -> None:
        self.calls: queue.Queue[bytes] = queue.Queue()
        self.times: list[float] = []
        self.statuses: list[int] = []
        self._closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = outer.statuses.pop(0) if outer.statuses else 200
                outer.times.append(time.time())
                outer.calls.put(body)
                if status == 0:
                    outer._closing.wait(10)
                    return
                self.send_response(status)
                if status == 307:
                    self.send_header("Location", outer.url)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/callback"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def raw(self) -> bytes:
        return self.calls.get(timeout=15)

    def next(self) -> dict[str, Any]:
        body: dict[str, Any] = json.loads(self.raw())
        return body

    def close(self) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
