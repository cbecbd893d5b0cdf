"""The sandbox as a server, threaded or in the foreground."""

import asyncio
import contextlib
import ipaddress
import pathlib
import signal
import socket
import threading
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.domain.destination import DestinationRules
from app.sandbox.app import create_sandbox
from app.sandbox.behavior import Behavior
from app.sandbox.engine import Engine
from app.sandbox.inputs import InputReader
from app.sandbox.store import Store

_WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
_STOP_SECONDS = 5.0
_BACKLOG = 512


class CuttableConnection(HttpToolsProtocol):
    """uvicorn's HTTP connection, with `hang_up()` in each request's `scope["state"]`.

    ASGI can't close a connection without a response, and any exception of an application becomes a 500.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn's own setting would silence all its servers in this process.
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give this connection's requests their `hang_up`."""
        self.app_state = {**self.app_state, "hang_up": transport.abort}
        super().connection_made(transport)


class SandboxServer:
    """The sandbox on a daemon thread; it can be restarted."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        state: pathlib.Path | None = None,
        behavior: Behavior | None = None,
        inputs: InputReader | None = None,
    ) -> None:
        """Configure the server; port 0 picks a free port.

        With `state`, a SQLite file, port 0 prefers the port of the last run. `inputs` may fetch from loopback by
        default.
        """
        self._host, self._port, self._state = host, port, state
        self._behavior = behavior or Behavior()
        self._inputs = inputs or InputReader(DestinationRules(_LOOPBACK))
        self._bound_port: int | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The base URL; raises RuntimeError before the first start."""
        if self._bound_port is None:
            raise RuntimeError("The sandbox has not been started.")
        host = _WILDCARDS.get(self._host, self._host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._bound_port}"

    def start(self) -> None:
        """Listen; raises OSError if the port or state is unusable."""
        if self._thread is not None:
            raise RuntimeError("The sandbox is already running.")
        store = Store(self._state)
        try:
            listener = self._listen(store.port)
        except OSError:
            store.close()
            raise
        self._bound_port = listener.getsockname()[1]
        store.remember_port(listener.getsockname()[1])
        self._engine = Engine(store, self._behavior, self.url, self._inputs)
        # log_config and log_level would change uvicorn's loggers for the whole process.
        config = uvicorn.Config(
            create_sandbox(self._engine), http=CuttableConnection, ws="none", log_config=None, lifespan="on", workers=1
        )
        self._server = uvicorn.Server(config)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(listener, store), name="sandbox", daemon=True)
        # Connections made before the thread serves them wait in the listener's backlog.
        self._thread.start()

    def stop(self) -> None:
        """Stop at once; a state file keeps unfinished tasks."""
        thread, self._thread = self._thread, None
        if thread is not None:
            if thread.is_alive():
                self._loop.call_soon_threadsafe(self._close)
            thread.join(_STOP_SECONDS)

    def _listen(self, last_port: int | None) -> socket.socket:
        if self._port == 0 and last_port is not None:
            with contextlib.suppress(OSError):
                return _bind(self._host, last_port)
        return _bind(self._host, self._port)

    def _close(self) -> None:
        """Abort connections and wake waiting handlers."""
        # Otherwise the server would wait for them.
        self._engine.closing.set()
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        self._server.should_exit = True

    def _run(self, listener: socket.socket, store: Store) -> None:
        try:
            self._loop.run_until_complete(self._server.serve(sockets=[listener]))
        finally:
            listener.close()
            store.close()
            # Unlike asyncio.run, don't wait for threads: a slow DNS lookup would delay the stop.
            self._loop.close()


def run(*, host: str, port: int, behavior: Behavior) -> None:
    """Run until SIGINT or SIGTERM; raises OSError like `start`."""
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    server = SandboxServer(host=host, port=port, behavior=behavior)
    server.start()
    print(f"Sandbox of the NanoBanana API on {server.url}", flush=True)  # noqa: T201 -- users need the address
    signal.sigwait(signals)
    server.stop()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    is_dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    with socket.create_server((host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=is_dual) as listener:
        # asyncio sets TCP_NODELAY only if the protocol is explicit; without it, responses would take 40 ms.
        return socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, listener.detach())
