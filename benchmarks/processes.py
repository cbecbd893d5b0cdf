"""Starts, measures and stops servers as subprocesses."""

import http.client
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

ROOT = Path(__file__).resolve().parents[1]
_START_SECONDS = 60
_STOP_SECONDS = 45
_PAUSE_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Usage:
    """A process's CPU time and resident memory."""

    cpu_seconds: float
    rss_bytes: int


class Server:
    """Runs `python -m …` with `--port` and a free port.

    `root` is where Python finds the modules. The process inherits no settings from the caller's environment, which
    could change a measurement.
    """

    def __init__(
        self,
        *arguments: str,
        directory: Path,
        environment: Mapping[str, str] | None = None,
        ready_path: str = "/",
        root: Path = ROOT,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.log_path = directory / "log"
        self._name = " ".join(arguments)
        self._ready_path = ready_path
        self.seconds_until_ready = 0.0
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._began = time.monotonic()
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments, "--port", str(self.port)],
                cwd=directory,
                env={**kept, "PYTHONPATH": str(root), **(environment or {})},
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C must reach only this process, which then stops its subprocesses in order.
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The server's base URL."""
        return f"http://127.0.0.1:{self.port}"

    def usage(self) -> Usage:
        """Return the process's usage so far."""
        process = psutil.Process(self._process.pid)
        times = process.cpu_times()
        return Usage(times.user + times.system, process.memory_info().rss)

    def stop(self) -> None:
        """Terminate the process; kill it if that takes too long."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _wait_until_ready(self) -> None:
        deadline = self._began + _START_SECONDS
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self._name} did not start:\n{self._log_end()}")
            time.sleep(_PAUSE_SECONDS)
        self.seconds_until_ready = time.monotonic() - self._began

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_START_SECONDS)
        try:
            connection.request("GET", self._ready_path)
            return connection.getresponse().status == http.client.OK
        except OSError:
            return False
        finally:
            connection.close()

    def _log_end(self) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-20:])


def free_port() -> int:
    """Return an unused local port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_seconds_of_tree(pid: int) -> float:
    """Return the CPU seconds of a process and its children."""
    try:
        parent = psutil.Process(pid)
        alive = [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    ended = parent.cpu_times()
    return _sum_cpu(alive) + ended.children_user + ended.children_system


def _sum_cpu(processes: Iterable[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def run_python(*arguments: str, seconds: float) -> str:
    """Run `python -m …` like `run`."""
    return run([sys.executable, "-m", *arguments], seconds=seconds)


def run(command: Sequence[str], *, seconds: float) -> str:
    """Run a program and return its output; raises on failure.

    Raises RuntimeError if it fails and TimeoutExpired after `seconds`.
    """
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            output, errors = process.communicate(timeout=seconds)
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{errors[-2000:]}")
    return output
