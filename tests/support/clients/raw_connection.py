"""A connection on which a test controls every byte."""

import json
import socket
from dataclasses import dataclass
from typing import Any, Self


@dataclass
class RawResponse:
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


class RawConnection:
    """A connection on which a test controls every byte.

    `window` is the size of its receive buffer.
    """

    def __init__(self, port: int, *, window: int | None = None) -> None:
        self._socket = socket.socket()
        self._socket.settimeout(10)
        if window is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        self._socket.connect(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")
        self.address: tuple[str, int] = self._socket.getsockname()
        """The client address that the service sees."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def ask(self, path: str, *, method: str = "GET", headers: bytes = b"", body: bytes = b"") -> None:
        """Send a request; `headers` are complete lines."""
        self.send(request(path, method=method, headers=headers, body=body))

    def answer(self, *, without_body: bool = False) -> RawResponse:
        """Read a response, or only its head if chunked."""
        status = int(self._file.readline().split()[1])
        headers: dict[str, str] = {}
        while line := self._file.readline().decode().strip():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        size = 0 if without_body else int(headers.get("content-length", "0"))
        return RawResponse(status, headers, self._file.read(size))

    def chunk(self) -> bytes:
        """Read a response's next chunk; the last is empty."""
        chunk = self._file.read(int(self._file.readline(), 16))
        assert self._file.readline() == b"\r\n"
        return chunk

    def arrival(self) -> bytes:
        """Return the data that arrives next."""
        return self._socket.recv(65_536)

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def rest(self) -> bytes:
        """Read until the connection ends."""
        try:
            return self._file.read()
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def request(path: str, *, method: str = "GET", headers: bytes = b"", body: bytes = b"") -> bytes:
    """Encode a request; `headers` are complete lines."""
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return b"%b %b HTTP/1.1\r\nHost: localhost\r\n%b%b\r\n%b" % (method.encode(), path.encode(), headers, length, body)
