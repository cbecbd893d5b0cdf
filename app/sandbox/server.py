"""The sandbox as a server: on a thread inside another process, or in the foreground."""

import asyncio
import contextlib
import pathlib
import signal
import socket
import threading
from types import FrameType

import uvicorn

from app.sandbox.app import create_sandbox
from app.sandbox.behavior import Behavior
from app.sandbox.connection import CuttableConnection
from app.sandbox.engine import Engine
from app.sandbox.store import Store

_WILDCARDS = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
_PORT = "port"
_PATIENCE_SECONDS = 5.0


class SandboxServer:
    """The sandbox on a daemon thread. Can be started again after it was stopped."""

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        state: pathlib.Path | None = None,
        behavior: Behavior | None = None,
        public_url: str | None = None,
    ) -> None:
        """Nothing happens before `start`.

        `port` 0 takes any free one; with `state`, a SQLite file, it is the same again next time if it can be.
        `public_url` is where the images' links point, by default to `url`.
        """
        self._host, self._port, self._state = host, port, state
        self._behaviour, self._public_url = behavior, public_url
        self._address: int | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where to reach the server, as `http://HOST:PORT`; raises RuntimeError before the first start."""
        if self._address is None:
            raise RuntimeError("The sandbox has not been started.")
        host = _WILDCARDS.get(self._host, self._host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self._address}"

    def start(self) -> None:
        """Listen; returns once it does. Raises OSError if the port is taken."""
        if self._thread is not None:
            raise RuntimeError("The sandbox is already running.")
        store = Store(self._state)
        try:
            listener = self._listen(store)
        except OSError:
            store.close()
            raise
        self._address = listener.getsockname()[1]
        store.remember(_PORT, str(self._address))
        application = create_sandbox(public_url=self._public_url or self.url, store=store, behavior=self._behaviour)
        self._engine: Engine = application.state.engine
        # Neither log_config nor log_level: both would change uvicorn's loggers for the whole process.
        config = uvicorn.Config(application, http=CuttableConnection, ws="none", log_config=None, lifespan="on")
        self._server = _Server(config)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._run, args=(listener, store), name="nanobanana-sandbox", daemon=True
        )
        self._thread.start()
        self._server.settled.wait(_PATIENCE_SECONDS)
        if not self._server.started:
            self.stop()
            raise OSError("The sandbox did not start; the log says why.")

    def stop(self) -> None:
        """Close at once; a state file keeps what was under way. Does nothing if it is not running."""
        thread, self._thread = self._thread, None
        if thread is not None:
            if thread.is_alive():
                self._loop.call_soon_threadsafe(self._close)
            thread.join(_PATIENCE_SECONDS)

    def _listen(self, store: Store) -> socket.socket:
        last = store.meta(_PORT)
        if self._port == 0 and last is not None:
            # If it is taken by now, another port is better than none.
            with contextlib.suppress(OSError):
                return _bind(self._host, int(last))
        return _bind(self._host, self._port)

    def _close(self) -> None:
        """Cut connections and wake sleeping handlers, so that the server finds nothing to wait for."""
        self._engine.closing.set()
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        self._server.should_exit = True

    def _run(self, listener: socket.socket, store: Store) -> None:
        try:
            self._loop.run_until_complete(self._server.serve(sockets=[listener]))
        finally:
            self._server.settled.set()
            listener.close()
            store.close()
            # Unlike asyncio.run, don't wait for threads: a name being looked up may take its time.
            self._loop.close()


class _Server(uvicorn.Server):
    """uvicorn's server with an event for when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self.settled.set()


def run(
    *,
    host: str,
    port: int,
    state: pathlib.Path | None,
    behavior: Behavior | None,
) -> None:
    """Run the sandbox in the foreground until SIGINT or SIGTERM. Raises OSError if the port is taken."""
    asked_to_stop = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        asked_to_stop.set()

    former = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    server = SandboxServer(host=host, port=port, state=state, behavior=behavior)
    try:
        server.start()
        print(f"Sandbox of the NanoBanana API on {server.url}", flush=True)  # noqa: T201 -- whoever starts it needs the address
        asked_to_stop.wait()
    finally:
        server.stop()
        for number, handler in former.items():
            signal.signal(number, handler)


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only then; answers would take 40 ms without.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        # Connections of the last run that linger must not keep the port; a server listening there still does.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    return listener
