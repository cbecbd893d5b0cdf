"""The gateway as a separate process."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Self

from tests.support.clients.task_client import TaskClient
from tests.support.paths import ROOT
from tests.support.servers.fork_server import ForkedProcess, fork_server
from tests.support.waiting import until


class GatewayProcess:
    """Runs `python -m app serve`, configured by environment variables.

    `fresh` starts a new interpreter instead of a fork, which is slow and rarely matters.
    """

    def __init__(
        self, directory: Path, environment: dict[str, str] | None = None, *, port: int = 0, fresh: bool = False
    ) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.log_path = directory / f"log-{time.monotonic_ns()}"
        clean = {name: value for name, value in os.environ.items() if name.upper() == name and "PROXY" not in name}
        self.environment = {**clean, "PYTHONPATH": str(ROOT), "DATA_DIR": str(directory / "data")}
        self.environment["KEEP_IMAGES"] = "false"
        self.environment.update(environment or {})
        arguments = ["serve", "--port", str(port)]
        with self.log_path.open("wb") as log:
            self.process = _start(arguments, directory, self.environment, log, log, fresh=fresh)
        self.port = until(self._port, seconds=30, what="the start")
        self.client = TaskClient(f"http://127.0.0.1:{self.port}")

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 15) -> int:
        """Send a signal, wait, and return the exit code."""
        self.client.close()
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGTERM)

    def _port(self) -> int | None:
        assert self.process.poll() is None, f"the service ended at once:\n{self.log}"
        for line in self.log.splitlines():
            # Console format: `started … address=http://…:1`; JSON: `"event": "started"` and `"address": "http://…:1"`.
            found = re.search(r"address\W+http://[^\s\"]+:(\d+)", line) if "started" in line else None
            if found:
                return int(found[1])
        return None


def run_app(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m app …` and return its result."""
    return _run(directory, arguments, environment, fresh=False)


def run_fresh_app(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m app …` in a new interpreter."""
    return _run(directory, arguments, environment, fresh=True)


def _run(
    directory: Path, arguments: Sequence[str], environment: dict[str, str], *, fresh: bool
) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "DATA_DIR": str(directory / "data")}
    clean.update({name: value for name, value in os.environ.items() if name.startswith("COV")})
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
        process = _start(arguments, directory, {**clean, **environment}, out, errors, fresh=fresh)
        try:
            code = process.wait(60)
        except BaseException:
            process.send_signal(signal.SIGKILL)
            raise
        out.seek(0)
        errors.seek(0)
        return subprocess.CompletedProcess(arguments, code, out.read().decode(), errors.read().decode())


def _start(
    arguments: Sequence[str],
    directory: Path,
    environment: dict[str, str],
    out: IO[bytes],
    errors: IO[bytes],
    *,
    fresh: bool,
) -> ForkedProcess | subprocess.Popen[bytes]:
    if not fresh:
        return fork_server().start(arguments, directory=directory, environment=environment, out=out, errors=errors)
    command = [sys.executable, "-m", "app", *arguments]
    return subprocess.Popen(command, cwd=directory, env=environment, stdout=out, stderr=errors)
