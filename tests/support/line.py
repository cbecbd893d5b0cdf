"""A connection on which a test says every byte itself."""

import json
import socket
from dataclasses import dataclass
from typing import Any

from tests.support.gateway import LiveGateway


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> tuple[int, str]:
        assert self.headers["content-type"] == "application/problem+json"
        assert self.headers["x-content-type-options"] == "nosniff"
        content: dict[str, Any] = json.loads(self.body)
        assert content["status"] == self.status
        assert content["request_id"] == self.headers["x-request-id"]
        return self.status, content["code"]


class Line:
    """A connection on which a test says every byte itself."""

    def __init__(self, gateway: LiveGateway) -> None:
        self._socket = socket.create_connection(("127.0.0.1", gateway.settings.port), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self, *, without_body: bool = False) -> Answer:
        status = int(self._file.readline().split()[1])
        headers: dict[str, str] = {}
        while line := self._file.readline().decode().strip():
            name, _, value = line.partition(": ")
            headers[name] = value
        size = 0 if without_body else int(headers.get("content-length", "0"))
        return Answer(status, headers, self._file.read(size))

    def rest(self) -> bytes:
        """Whatever else comes before the end of the connection."""
        try:
            return self._file.read()
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        self._file.close()
        self._socket.close()
