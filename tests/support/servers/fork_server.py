"""Forks service processes from one that has imported everything.

Imports take longer than most tests. Each fork is a real process: `python -m app` in its own directory and environment,
which can be signaled, killed and waited for.
"""

import atexit
import gc
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO

from tests.support.paths import ROOT

_LENGTH = struct.Struct("!I")
# The entry point, and modules that it would import only at startup.
_WANTED = (
    "app.cli",
    "app.access.authenticator",
    "app.access.projects",
    "app.db.alembic_runner",
    "app.db.engine.postgresql",
    "app.sandbox.server",
    "app.serve",
    "anyio._backends._asyncio",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
)


class ForkedProcess:
    """A service process with the interface of `subprocess.Popen`."""

    def __init__(self, pid: int, news: IO[bytes]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._news = news

    def poll(self) -> int | None:
        """Return the exit code (negative: a signal), None if running."""
        if self.returncode is None and select.select([self._news], [], [], 0)[0]:
            self._read()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait up to `timeout` seconds and return the exit code."""
        if self.returncode is None:
            if not select.select([self._news], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("python -m app", timeout or 0)
            self._read()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def _read(self) -> None:
        self.returncode = int(self._news.readline())
        self._news.close()


class ForkServer:
    """The process that forks the others."""

    def __init__(self) -> None:
        self._line, theirs = socket.socketpair()
        self._lock = threading.Lock()
        with theirs:
            command = [sys.executable, "-m", "tests.support.servers.fork_server", str(theirs.fileno())]
            self._process = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True
            )
        atexit.register(self.close)

    def start(
        self,
        arguments: Sequence[str],
        *,
        directory: Path,
        environment: Mapping[str, str],
        out: IO[bytes],
        errors: IO[bytes],
    ) -> ForkedProcess:
        """Run `python -m app` with these arguments."""
        order = json.dumps([list(arguments), str(directory), dict(environment)]).encode()
        reading, writing = os.pipe()
        news = os.fdopen(reading, "rb", buffering=0)
        try:
            with self._lock:
                fds = [out.fileno(), errors.fileno(), writing]
                socket.send_fds(self._line, [_LENGTH.pack(len(order))], fds)
                self._line.sendall(order)
        finally:
            os.close(writing)
        return ForkedProcess(int(news.readline()), news)

    def close(self) -> None:
        """Stop the process."""
        self._line.close()
        self._process.wait()


@cache
def fork_server() -> ForkServer:
    """Return this process's fork server."""
    return ForkServer()


def _main(line: socket.socket) -> None:
    for name in _WANTED:
        import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while head := _next_order(line):
        order, (out, errors, news) = head
        if os.fork() == 0:
            line.close()
            if _keep(news):
                _become(*order, out=out, errors=errors)
                return
        for fd in (out, errors, news):
            os.close(fd)


def _next_order(line: socket.socket) -> tuple[tuple[list[str], str, dict[str, str]], list[int]] | None:
    length, fds, _, _ = socket.recv_fds(line, _LENGTH.size, 3)
    if not length:
        return None
    return json.loads(line.recv(_LENGTH.unpack(length)[0], socket.MSG_WAITALL)), fds


def _keep(news: int) -> bool:
    """Fork and supervise a child; returns True in the child.

    Reports the child's id and exit code. Kills it if the reader is gone.
    """
    ended, end = os.pipe()
    os.set_blocking(end, False)
    signal.set_wakeup_fd(end)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd in (ended, end, news):
            os.close(fd)
        return True
    os.write(news, b"%d\n" % pid)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(news, 0)  # reports only that the reader is gone
    if news in dict(poll.poll()):
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):
        os.write(news, b"%d\n" % os.waitstatus_to_exitcode(status))
    os._exit(0)


def _become(arguments: list[str], directory: str, environment: dict[str, str], *, out: int, errors: int) -> None:
    os.dup2(out, sys.stdout.fileno())
    os.dup2(errors, sys.stderr.fileno())
    os.close(out)
    os.close(errors)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(directory)
    sys.argv = ["app", *arguments]
    runpy.run_module("app", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main(socket.socket(fileno=int(sys.argv[1])))
