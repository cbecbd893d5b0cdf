"""A client that sends prepared requests and timestamps the responses."""

import json
import socket
import time
from dataclasses import dataclass
from typing import Any, Self

_TIMEOUT_SECONDS = 40


@dataclass(frozen=True, slots=True)
class Answer:
    """A response; `at` is the arrival of its last byte.

    It is in nanoseconds since the epoch.
    """

    head: str
    body: bytes
    at: int

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.head[9:12])

    def json(self) -> Any:
        """Parse the body as JSON."""
        return json.loads(self.body)


class Client:
    """One connection to a local server; `load.request` builds requests."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, request: bytes) -> int:
        """Send a request; return the time in epoch nanoseconds."""
        now = time.time_ns()
        self._socket.sendall(request)
        return now

    def receive(self) -> Answer:
        """Wait for the response to the last request."""
        received = b""
        while True:
            chunk = self._socket.recv(65_536)
            if not chunk:
                raise ConnectionError("the server closed the connection")
            received += chunk
            head, separator, body = received.partition(b"\r\n\r\n")
            if separator and len(body) >= content_length(head):
                return Answer(head.decode(), body, time.time_ns())

    def ask(self, request: bytes) -> Answer:
        """Send a request and wait for its response."""
        self.send(request)
        return self.receive()


def content_length(head: bytes) -> int:
    """Return the body's length from a response head."""
    _, _, rest = head.lower().partition(b"content-length:")
    return int(rest.partition(b"\r\n")[0] or 0)
