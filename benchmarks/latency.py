"""Latency of submits and results when the service is idle."""

import json
import statistics
import time
import uuid
from collections.abc import Iterable

from app.domain.callback import CallbackTokens
from benchmarks.client import Client
from benchmarks.databases import EmptyDatabase
from benchmarks.gateway import SECRET
from benchmarks.load import request
from benchmarks.paths import verdict_request
from benchmarks.processes import Server
from benchmarks.report import Table
from benchmarks.seeding import Store
from benchmarks.session import Session

OUTWARD = "from submit to arrival at the upstream"
BACK = "from callback to the response of `?wait=30`"
_TIMES = 100
_PAUSE_SECONDS = 0.03
_PATIENCE_SECONDS = 10
_NANOSECONDS = 1_000_000


def measure(session: Session) -> Table:
    """Measure both latencies on each database."""
    table = Table("Latency, idle", ("path", "database", "median ms", "p99 ms", "longest ms"))
    for kind in session.options.databases:
        database = session.databases.create(kind)
        with session.gateway(database, UPSTREAM_RATE_LIMIT="0") as server:
            table.rows.append((OUTWARD, kind, *_cells(outward(session, server))))
            returned = back(server, _verdicts(database))
            if returned:
                table.rows.append((BACK, kind, *_cells(returned)))
            else:
                table.notes.append(f"{kind}: no response has `Preference-Applied`, so this version can't wait.")
    table.notes.append(f"{_TIMES} times in sequence, with {_PAUSE_SECONDS * 1000:.0f} ms of rest after each.")
    return table


def outward(session: Session, server: Server, times: int = _TIMES) -> list[float]:
    """Time submits until they reach the upstream, in milliseconds."""
    took = []
    with Client(server.port) as client, Client(session.upstream.port) as upstream:
        for _ in range(times):
            prompt = uuid.uuid4().hex
            sent = client.send(request("POST", "/v1/tasks", json.dumps({"prompt": prompt}).encode()))
            client.receive()
            took.append((_arrival(upstream, prompt) - sent) / _NANOSECONDS)
            time.sleep(_PAUSE_SECONDS)
    return took


def _arrival(upstream: Client, prompt: str) -> int:
    """Return when the upstream received a prompt, in epoch nanoseconds."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < deadline:
        for at, body in upstream.ask(request("GET", "/arrivals")).json():
            if prompt in body:
                return int(at)
        time.sleep(_PAUSE_SECONDS / 10)
    raise RuntimeError("a submit did not reach the upstream in time")


def _verdicts(database: EmptyDatabase) -> list[tuple[str, bytes]]:
    tokens = CallbackTokens([SECRET])
    return [(task.id, verdict_request(tokens, task)) for task in Store(database.url).add_processing(_TIMES)]


def back(server: Server, verdicts: Iterable[tuple[str, bytes]]) -> list[float]:
    """Time callbacks until a waiting client has its response.

    In milliseconds; empty if this version doesn't support waiting.
    """
    took = []
    with Client(server.port) as waiting, Client(server.port) as upstream:
        for task_id, verdict in verdicts:
            waiting.send(request("GET", f"/v1/tasks/{task_id}?wait=30"))
            time.sleep(_PAUSE_SECONDS)
            sent = upstream.send(verdict)
            answer = waiting.receive()
            upstream.receive()
            if "preference-applied" not in answer.head.lower():
                return []
            if answer.json()["status"] != "succeeded":
                raise RuntimeError("a waiting client received its response before the result")
            took.append((answer.at - sent) / _NANOSECONDS)
    return took


def _cells(took: list[float]) -> list[str]:
    p99 = statistics.quantiles(took, n=100)[98]
    return [f"{statistics.median(took):.1f}", f"{p99:.1f}", f"{max(took):.1f}"]
