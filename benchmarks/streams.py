"""Memory and latency of many event streams on one process.

`python -m benchmarks.streams --streams 1000 --events 200` opens that many streams of a project, each of which receives
all events, then as many of single tasks. Times are from sending a request until a client has the resulting event, so
they include the commit. The time of the request's own response is printed for comparison.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import uvloop

_SETTINGS = {
    "NANOBANANA_API_KEY": "none",
    # Nothing is submitted: tasks stay queued until they are canceled.
    "NANOBANANA_BASE_URL": "http://127.0.0.1:9",
    "UPSTREAM_RATE_LIMIT": "1/600",
    "SECRET_KEY": "benchmark",
    "LOG_LEVEL": "warning",
}
_START_SECONDS = 30
_OPENED_AT_ONCE = 50
_SETTLE_SECONDS = 1.0


@dataclass
class Client:
    """One stream, with arrival times by task id and type."""

    arrived: dict[tuple[str, str], float] = field(default_factory=dict)
    reading: "asyncio.Task[None] | None" = None

    async def open(self, port: int, path: str) -> None:
        """Connect, read the response's head, and read on in background."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise RuntimeError(head.decode())
        self.reading = asyncio.create_task(self._read(reader, writer))

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = ""
        try:
            while line := await reader.readline():
                if line.startswith(b"event: "):
                    kind = line[7:].strip().decode()
                elif line.startswith(b'data: {"id":"'):
                    self.arrived[line[13:50].decode(), kind] = time.perf_counter()
        finally:
            writer.close()


class Gateway:
    """The service in a subprocess."""

    def __init__(self, directory: Path, port: int, database_url: str | None) -> None:
        environment = {**os.environ, **_SETTINGS, "DATA_DIR": str(directory)}
        if database_url:
            environment["DATABASE_URL"] = database_url
        command = [sys.executable, "-m", "app", "serve", "--port", str(port)]
        self.port = port
        self.process = psutil.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_up():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError("the service did not start")
            time.sleep(0.05)

    def _is_up(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/healthz").is_success
        except httpx.TransportError:
            return False

    @property
    def memory(self) -> int:
        """Resident memory in bytes."""
        return int(self.process.memory_info().rss)

    def stop(self) -> None:
        """Terminate the process."""
        self.process.terminate()
        self.process.wait()


async def open_streams(gateway: Gateway, paths: Sequence[str]) -> list[Client]:
    """Open streams in batches."""
    clients = [Client() for _ in paths]
    for start in range(0, len(paths), _OPENED_AT_ONCE):
        part = slice(start, start + _OPENED_AT_ONCE)
        await asyncio.gather(
            *(client.open(gateway.port, path) for client, path in zip(clients[part], paths[part], strict=True))
        )
    return clients


async def close_streams(clients: Sequence[Client]) -> None:
    """Close all streams."""
    reading = [client.reading for client in clients if client.reading is not None]
    for one in reading:
        one.cancel()
    await asyncio.gather(*reading, return_exceptions=True)


async def submit(http: httpx.AsyncClient) -> str:
    """Submit a task and return its id."""
    response = await http.post("/v1/tasks", json={"prompt": "a lake at sunset, seen from a wooden pier"})
    return str(response.raise_for_status().json()["id"])


def show(name: str, seconds: Sequence[float]) -> None:
    """Print a table row."""
    ordered = sorted(seconds)
    p50, p99 = statistics.median(ordered), ordered[int(len(ordered) * 0.99)]
    print(f"| {name} | {p50 * 1000:.1f} | {p99 * 1000:.1f} | {ordered[-1] * 1000:.1f} | {len(ordered)} |")


async def follow_project(gateway: Gateway, http: httpx.AsyncClient, arguments: argparse.Namespace) -> None:
    """Measure streams that receive all events of a project."""
    before = gateway.memory
    clients = await open_streams(gateway, ["/v1/events"] * arguments.streams)
    await asyncio.sleep(_SETTLE_SECONDS)
    each = (gateway.memory - before) / arguments.streams / 1024
    print(f"{arguments.streams} streams: {before / 2**20:.0f} MiB before, {each:.1f} KiB more for each\n")
    print("| from a submit | p50 ms | p99 ms | max ms | n |\n|---|---|---|---|---|")
    sent: dict[str, float] = {}
    answers = []
    for _ in range(arguments.events):
        began = time.perf_counter()
        task_id = await submit(http)
        answers.append(time.perf_counter() - began)
        sent[task_id] = began
        await asyncio.sleep(arguments.pause)
    await asyncio.sleep(_SETTLE_SECONDS)
    delays = [client.arrived[task_id, "task.queued"] - began for client in clients for task_id, began in sent.items()]
    show("to its response", answers)
    show(f"to each of {arguments.streams} clients", delays)
    show("to the first client", [min(c.arrived[t, "task.queued"] for c in clients) - b for t, b in sent.items()])
    show("to the last client", [max(c.arrived[t, "task.queued"] for c in clients) - b for t, b in sent.items()])
    await close_streams(clients)
    print(
        f"\nmemory per stream after {arguments.events} events: {(gateway.memory - before) / arguments.streams / 1024:.1f} KiB\n"
    )


async def follow_tasks(gateway: Gateway, http: httpx.AsyncClient, arguments: argparse.Namespace) -> None:
    """Measure streams of single tasks."""
    ids = [await submit(http) for _ in range(arguments.streams)]
    clients = await open_streams(gateway, [f"/v1/tasks/{task_id}/events" for task_id in ids])
    await asyncio.sleep(_SETTLE_SECONDS)
    print("| from a cancellation | p50 ms | p99 ms | max ms | n |\n|---|---|---|---|---|")
    answers, delays = [], []
    for task_id, client in zip(ids, clients, strict=True):
        began = time.perf_counter()
        (await http.post(f"/v1/tasks/{task_id}/cancel")).raise_for_status()
        answers.append(time.perf_counter() - began)
        if client.reading is not None:
            await client.reading
        delays.append(client.arrived[task_id, "task.canceled"] - began)
    show("to its response", answers)
    show("to the client that follows the task", delays)


async def measure(arguments: argparse.Namespace) -> None:
    """Run all measurements and print the results."""
    with tempfile.TemporaryDirectory() as name:
        gateway = Gateway(Path(name), arguments.port, arguments.database_url)
        try:
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.port}", timeout=30) as http:
                await submit(http)
                await follow_project(gateway, http, arguments)
                await follow_tasks(gateway, http, arguments)
        finally:
            gateway.stop()


def main() -> None:
    """Read the arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--events", type=int, default=200)
    parser.add_argument("--pause", type=float, default=0.2, help="seconds between submits")
    parser.add_argument("--port", type=int, default=8099)
    parser.add_argument("--database-url", help="a PostgreSQL URL (default: SQLite)")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
