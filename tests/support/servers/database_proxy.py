"""A PostgreSQL proxy that can go silent without closing connections."""

import socket
import threading
from contextlib import suppress
from typing import Self

from sqlalchemy.engine import URL, make_url

_CHUNK_BYTES = 65_536


class DatabaseProxy:
    """Forwards connections to a server; `url` leads through the proxy."""

    def __init__(self, url: str) -> None:
        self._to = make_url(url)
        self._flowing = threading.Event()
        self._flowing.set()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        port = self._listener.getsockname()[1]
        through = URL.create(
            "postgresql", self._to.username, self._to.password or None, "127.0.0.1", port, self._to.database
        )
        self.url = through.render_as_string(hide_password=False)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._flowing.set()
        for end in list(self._sockets):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def fall_silent(self) -> None:
        """Stop forwarding in both directions; keep connections open."""
        self._flowing.clear()

    def resume(self) -> None:
        """Resume forwarding, beginning with the data held back."""
        self._flowing.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        self._flowing.wait()
        try:
            server = self._open()
        except OSError:
            client.close()
            return
        self._sockets += [client, server]
        threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
        self._pump(server, client)

    def _open(self) -> socket.socket:
        directory = self._to.query.get("host")
        if isinstance(directory, str):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{directory}/.s.PGSQL.{self._to.port or 5432}")
            return server
        return socket.create_connection((self._to.host or "127.0.0.1", self._to.port or 5432))

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK_BYTES):
                self._flowing.wait()
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
