"""The gateway under test: on a thread for most tests, as a process of its own where processes matter."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Self, cast

import httpx

from app.access.signing_secrets import load_secrets
from app.background import LoopTimes
from app.container import Container
from app.events.streams import StreamLimits
from app.main import create_app
from app.prepare import prepare_data_dir
from app.serve import listen, make_server, prepare
from app.server.limits import ConnectionLimits
from app.server.protocol import LimitedProtocol
from app.settings import Settings
from tests.support.connections import KEPT_BRIEFLY
from tests.support.databases import create_sqlite
from tests.support.nursery import ROOT, Forked, nursery
from tests.support.waiting import until

# Most tests' images are at addresses that don't exist: those that are about copies say so.
QUICK = {
    "poll_after_seconds": 30.0,
    "upstream_rate_limit": "0",
    "upstream_timeout_seconds": 5.0,
    "keep_images": False,
}


TERMINAL = {"succeeded", "failed", "canceled"}


class TaskClient(httpx.Client):
    """An HTTP client of this machine's services with the few words that tests say most."""

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url=base_url, timeout=30, limits=KEPT_BRIEFLY, verify=False, trust_env=False)

    def submit(self, **body: Any) -> dict[str, Any]:
        response = self.post("/v1/tasks", json={"prompt": "a lake at sunset", **body})
        assert response.status_code == 202, response.text
        task: dict[str, Any] = response.json()
        return task

    def task(self, task_id: str, *, wait: float = 0) -> dict[str, Any]:
        """Get a task, once it has ended or after `wait` seconds."""
        query = {"wait": round(min(wait, 60))} if wait else {}
        response = self.get(f"/v1/tasks/{task_id}", params=query, timeout=30 + wait)
        assert response.status_code == 200, response.text
        task: dict[str, Any] = response.json()
        return task

    def wait_for(self, task_id: str, *statuses: str, seconds: float = 15.0) -> dict[str, Any]:
        """Wait until the task has one of these states (default: any terminal one)."""
        wanted = set(statuses) or TERMINAL
        wait = seconds if wanted <= TERMINAL else 0
        return until(
            lambda: found if (found := self.task(task_id, wait=wait))["status"] in wanted else None,
            seconds=seconds,
            what=f"{task_id} becoming {' or '.join(wanted)}",
        )


class LiveGateway:
    """The service on a thread, on a real port; settings by field name, limits and times as `create_app` takes them."""

    def __init__(self, *, data_dir: Path, upstream_url: str, **settings: Any) -> None:
        stream_limits: StreamLimits | None = settings.pop("stream_limits", None)
        connection_limits: ConnectionLimits | None = settings.pop("connection_limits", None)
        loop_times: LoopTimes | None = settings.pop("loop_times", None)
        given = {"nanobanana_api_key": "upstream-key", "data_dir": data_dir, **QUICK, **settings}
        self.settings = Settings(_env_file=None, **{"host": "127.0.0.1", "port": 0, **given})
        prepare_data_dir(self.settings)
        if self.settings.database_url is None and not (file := data_dir / "gateway.db").exists():
            create_sqlite(file)
        asyncio.run(prepare(self.settings, load_secrets(self.settings)))
        self._listener = listen(self.settings)
        port = self._listener.getsockname()[1]
        self.settings = self.settings.model_copy(update={"port": port})
        self._app = create_app(
            self.settings,
            upstream_url=upstream_url,
            upstream_key="upstream-key",
            stream_limits=stream_limits,
            loop_times=loop_times,
        )
        self._server = make_server(self.settings, self._app, connection_limits)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)
        self._thread.start()
        until(lambda: self._server.started or not self._thread.is_alive(), what="the start")
        assert self._server.started
        self.client = TaskClient(self.settings.local_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def container(self) -> Container:
        """The parts of the service, to look at; they live on another thread."""
        container: Container = self._app.state.container
        return container

    @property
    def unsent_bytes(self) -> int:
        """What waits to be taken by all clients."""
        connections = list(self._server.server_state.connections)
        return sum(c.transport.get_write_buffer_size() for c in connections if c.transport is not None)

    @property
    def clients(self) -> set[tuple[str, int] | None]:
        """Who is connected."""
        connections = cast("set[LimitedProtocol]", self._server.server_state.connections)
        return {connection.client for connection in list(connections)}

    def begin_to_stop(self) -> None:
        """Do what a signal does."""
        self._server.should_exit = True

    def close(self) -> None:
        self.client.close()
        self.begin_to_stop()
        self._thread.join(20)
        assert not self._thread.is_alive(), "the service did not stop"


class GatewayProcess:
    """`python -m app serve` as a process; settings as environment variables.

    `fresh` lets the interpreter begin at the beginning, which takes long and seldom matters.
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
        """End the process by a signal and return its exit code."""
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
            # On a console `started … address=http://…:1`, as JSON `"event": "started"` and `"address": "http://…:1"`.
            found = re.search(r"address\W+http://[^\s\"]+:(\d+)", line) if "started" in line else None
            if found:
                return int(found[1])
        return None


def run_app(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m app …` to its end."""
    return _run(directory, arguments, environment, fresh=False)


def run_fresh_app(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m app …` to its end, in an interpreter that begins at the beginning."""
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
) -> Forked | subprocess.Popen[bytes]:
    if not fresh:
        return nursery().start(arguments, directory=directory, environment=environment, out=out, errors=errors)
    command = [sys.executable, "-m", "app", *arguments]
    return subprocess.Popen(command, cwd=directory, env=environment, stdout=out, stderr=errors)
