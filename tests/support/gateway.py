"""The gateway under test: on a thread for most tests, as a process of its own where processes matter."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Self

import httpx

from app.connection import ConnectionLimits
from app.factory import Factory
from app.serve import listen, make_server, prepare, prepare_data_dir
from app.services.secret import load_secrets
from app.services.streams import StreamLimits
from app.settings import Settings
from tests.support.waiting import until

ROOT = Path(__file__).resolve().parents[2]
QUICK = {"poll_after_seconds": 30.0, "upstream_rate_limit": "0", "upstream_timeout_seconds": 5.0}


class TaskClient(httpx.Client):
    """An HTTP client with the few words that tests say most."""

    def submit(self, **body: Any) -> dict[str, Any]:
        response = self.post("/v1/tasks", json={"prompt": "a lake at sunset", **body})
        assert response.status_code == 202, response.text
        task: dict[str, Any] = response.json()
        return task

    def task(self, task_id: str) -> dict[str, Any]:
        response = self.get(f"/v1/tasks/{task_id}")
        assert response.status_code == 200, response.text
        task: dict[str, Any] = response.json()
        return task

    def wait_for(self, task_id: str, *statuses: str, seconds: float = 15.0) -> dict[str, Any]:
        """Wait until the task has one of these states (default: any terminal one)."""
        wanted = statuses or ("succeeded", "failed", "canceled")
        return until(
            lambda: found if (found := self.task(task_id))["status"] in wanted else None,
            seconds=seconds,
            what=f"{task_id} becoming {' or '.join(wanted)}",
        )


class LiveGateway:
    """The service on a thread, on a real port; settings by their field names, `stream_limits`, `connection_limits`."""

    def __init__(self, *, data_dir: Path, upstream_url: str, **settings: Any) -> None:
        stream_limits: StreamLimits | None = settings.pop("stream_limits", None)
        connection_limits: ConnectionLimits | None = settings.pop("connection_limits", None)
        given = {"nanobanana_api_key": "upstream-key", "data_dir": data_dir, **QUICK, **settings}
        self.settings = Settings(_env_file=None, **{"host": "127.0.0.1", "port": 0, **given})
        prepare_data_dir(self.settings)
        asyncio.run(prepare(self.settings, load_secrets(self.settings)))
        self._listener = listen(self.settings)
        port = self._listener.getsockname()[1]
        self.settings = self.settings.model_copy(update={"port": port})
        self._server = make_server(
            self.settings,
            upstream_url=upstream_url,
            upstream_key="upstream-key",
            stream_limits=stream_limits,
            connection_limits=connection_limits,
        )
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._listener]}, daemon=True)
        self._thread.start()
        until(lambda: self._server.started or not self._thread.is_alive(), what="the start")
        assert self._server.started
        self.client = TaskClient(base_url=self.settings.local_url, timeout=30, verify=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def factory(self) -> Factory:
        """The parts of the service, to look at; they live on another thread."""
        factory: Factory = self._server.config.app.state.factory  # type: ignore[union-attr]
        return factory

    def begin_to_stop(self) -> None:
        """Do what a signal does."""
        self._server.should_exit = True

    def close(self) -> None:
        self.client.close()
        self.begin_to_stop()
        self._thread.join(20)
        assert not self._thread.is_alive(), "the service did not stop"


class GatewayProcess:
    """`python -m app serve` as a process; settings as environment variables."""

    def __init__(self, directory: Path, environment: dict[str, str] | None = None, *, port: int = 0) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.log_path = directory / f"log-{time.monotonic_ns()}"
        clean = {name: value for name, value in os.environ.items() if name.upper() == name and "PROXY" not in name}
        self.environment = {**clean, "PYTHONPATH": str(ROOT), "DATA_DIR": str(directory / "data")}
        self.environment.update(environment or {})
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve", "--port", str(port)],
                cwd=directory,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.port = until(self._port, seconds=30, what="the start")
        self.client = TaskClient(base_url=f"http://127.0.0.1:{self.port}", timeout=30, verify=False)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def stop(self, number: signal.Signals = signal.SIGTERM, seconds: float = 30) -> int:
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
    clean = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    clean.update({name: value for name, value in os.environ.items() if name.startswith("COV")})
    return subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=directory,
        env={**clean, "DATA_DIR": str(directory / "data"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
