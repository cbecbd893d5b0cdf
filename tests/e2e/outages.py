"""The outage run: stops PostgreSQL under load and restarts it.

Clients must get clear 503s, and nothing may be lost. For longer runs: python -m tests.e2e.outages --seconds 30
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from app.sandbox.behavior import Behavior
from app.sandbox.server import SandboxServer
from tests.e2e.load import Load
from tests.support.clients.event_reader import EventReader
from tests.support.databases.postgres import PostgresServer, stored_events
from tests.support.servers.gateway_process import GatewayProcess

_SETTINGS = {
    "NANOBANANA_API_KEY": "outage-run",
    "SECRET_KEY": "outage-run-secret",
    "UPSTREAM_RATE_LIMIT": "0",
    "POLL_AFTER_SECONDS": "1",
    "TASK_TIMEOUT_SECONDS": "30",
}


@dataclass
class Outage:
    """The results of a run; memory is resident MiB."""

    orders: int
    memory_before: float = 0.0
    memory_during: float = 0.0
    memory_after: float = 0.0
    ready_during: int = 0
    alive_during: int = 0
    followed: int = 0
    """Tasks whose end a continuously connected client saw."""
    answers: Counter[int | str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)


def run(directory: Path, server: PostgresServer, *, orders: int, seconds: float) -> Outage:
    """Order tasks, stop the database meanwhile, and wait for all."""
    outcome = Outage(orders)
    sandbox = SandboxServer(behavior=Behavior.from_dict({"delay_seconds": [0.05, 0.5]}))
    sandbox.start()
    environment = {
        **_SETTINGS,
        "DATABASE_URL": server.create_database(),
        "NANOBANANA_BASE_URL": sandbox.url,
    }
    try:
        with (
            GatewayProcess(directory, environment) as gateway,
            EventReader(str(gateway.client.base_url), "/v1/events") as follower,
        ):
            process = psutil.Process(gateway.process.pid)
            counts = (orders // 2, orders - orders // 2)
            loads = [Load(lambda: [f"http://127.0.0.1:{gateway.port}"], count, pause=0.01) for count in counts]
            loads[0].start()
            loads[0].wait_for(lambda: len(loads[0].accepted) > orders // 4, seconds=60, what="a quarter of the orders")
            outcome.memory_before = _memory(process)
            server.stop()
            # These orders fall into the outage even if all others were accepted before it.
            loads[1].start()
            try:
                loads[1].wait_for(
                    lambda: loads[1].answers[httpx.codes.SERVICE_UNAVAILABLE] > 0, seconds=15, what="a 503"
                )
                outcome.alive_during = gateway.client.get("/healthz").status_code
                outcome.ready_during = gateway.client.get("/readyz").status_code
                time.sleep(seconds)  # the length of the outage
                outcome.memory_during = _memory(process)
            finally:
                server.start()
            for load in loads:
                load.join(60)
                _finish(gateway, load, outcome)
            ready = gateway.client.get("/readyz")
            if ready.status_code != httpx.codes.OK:
                outcome.wrong.append(f"not ready afterward: {ready.text}")
            follower.wait(lambda it: _ended(it) >= orders, seconds=30, what="the end of the last order")
            outcome.followed = _ended(follower)
            if follower.ids != [stored[0] for stored in asyncio.run(stored_events(environment["DATABASE_URL"]))]:
                outcome.wrong.append("the following client missed events or saw duplicates")
            outcome.memory_after = _memory(process)
    finally:
        sandbox.stop()
    return outcome


def _ended(follower: EventReader) -> int:
    return sum(status in {"succeeded", "failed"} for _, status in follower.told)


def _finish(gateway: GatewayProcess, load: Load, outcome: Outage) -> None:
    for key, task_id in load.accepted.items():
        task = gateway.client.wait_for(task_id, seconds=60)
        outcome.statuses[task["status"]] += 1
        if task["status"] != "succeeded":
            outcome.wrong.append(f"order {key} ended as {task['error']}")
    outcome.answers += load.answers
    outcome.wrong += load.odd_answers


def _memory(process: psutil.Process) -> float:
    return float(process.memory_info().rss / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with PostgresServer() as server:
            outcome = run(directory, server, orders=arguments.orders, seconds=arguments.seconds)
    print(outcome)  # noqa: T201 -- a command's output
    raise SystemExit(1 if outcome.wrong else 0)


if __name__ == "__main__":
    main()
