"""The crash run: kills replicas under load, with vendor faults.

Afterward the books must balance. For longer runs: python -m tests.e2e.crashes --orders 3000
"""

import argparse
import random
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from app.sandbox.behavior import Behavior
from app.sandbox.server import SandboxServer
from tests.e2e.load import Load
from tests.support.databases.postgres import PostgresServer
from tests.support.servers.gateway_process import GatewayProcess
from tests.support.waiting import until

_FAULTS: dict[str, Any] = {
    "delay_seconds": [0.05, 1.0],
    "refuse_429": 0.03,
    "refuse_500": 0.03,
    "refuse_503": 0.03,
    "proxy_502": 0.02,
    "hang_up_before": 0.02,
    "hang_up_after": 0.03,
    "garbage_200": 0.02,
    "slow_reply": 0.02,
    "slow_seconds": 3.0,
    "in_http_200": 0.5,
    "fail_400": 0.03,
    "fail_501": 0.05,
    "callback_drop": 0.2,
    "callback_repeat": 0.2,
    "callback_early": 0.1,
    "callback_garbage": 0.1,
    "callback_wrong_task": 0.05,
    "callback_contradict": 0.05,
    "not_found_seconds": 0.3,
    "record_error": 0.1,
    "record_hang_up": 0.05,
}
_SETTINGS = {
    "NANOBANANA_API_KEY": "crash-run",
    "SECRET_KEY": "crash-run-secret",
    "UPSTREAM_RATE_LIMIT": "0",
    "UPSTREAM_TIMEOUT_SECONDS": "2",
    "SUBMIT_RETRIES": "50",
    # If a replica is killed while it probes a paused account, the others wait this long.
    "HOLD_RETRY_SECONDS": "2",
    "POLL_AFTER_SECONDS": "0.5",
    "TASK_TIMEOUT_SECONDS": "10",
}


@dataclass
class Books:
    """The results of a run, and the errors found."""

    orders: int
    kills: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    answers: Counter[int | str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    """Tasks that ended as submission_unknown, by their state at the vendor."""
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run(
    directory: Path, database_url: str, *, orders: int, replicas: int = 2, seed: int = 0, pause: float = 0.02
) -> Books:
    """Kill a replica about every second until all orders end."""
    began = time.monotonic()
    draw = random.Random(seed)
    books = Books(orders)
    sandbox = SandboxServer(behavior=Behavior.from_dict({"seed": seed, **_FAULTS}))
    sandbox.start()
    environment = {**_SETTINGS, "DATABASE_URL": database_url, "NANOBANANA_BASE_URL": sandbox.url}
    running = [GatewayProcess(directory / str(n), environment) for n in range(replicas)]
    load = Load(lambda: [f"http://127.0.0.1:{one.port}" for one in running], orders, pause=pause)
    load.start()
    try:
        while len(load.accepted) < orders:
            time.sleep(draw.uniform(0.7, 1.6))  # kills must happen at random times, so there is nothing to wait for
            victim = draw.randrange(replicas)
            running[victim].stop(signal.SIGKILL)
            books.kills += 1
            # Reuse the port, as it is part of the callback URLs.
            running[victim] = GatewayProcess(directory / str(victim), environment, port=running[victim].port)
        load.join(60)
        _await_the_end(running[0], load, books)
        _balance(running[0], sandbox, load, books)
        for one in running:
            code = one.stop()
            if code != 0:
                books.wrong.append(f"a replica stopped with {code}:\n{one.log[-2000:]}")
    finally:
        for one in running:
            if one.process.poll() is None:
                one.stop(signal.SIGKILL)
        sandbox.stop()
    books.answers = load.answers
    books.wrong += load.odd_answers
    books.seconds = time.monotonic() - began
    return books


def _await_the_end(gateway: GatewayProcess, load: Load, books: Books) -> None:
    def is_over() -> bool:
        active = ("queued", "submitting", "processing")
        return not any(gateway.client.get("/v1/tasks", params={"status": s}).json()["data"] for s in active)

    until(is_over, seconds=120, what="the end of all tasks")


def _balance(gateway: GatewayProcess, sandbox: SandboxServer, load: Load, books: Books) -> None:
    tasks = {task["id"]: task for task in _every_task(gateway)}
    by_key = Counter(task["metadata"]["key"] for task in tasks.values())
    books.wrong += [f"order {key} created {count} tasks" for key, count in by_key.items() if count != 1]
    books.wrong += [f"order {key} was accepted but is lost" for key, id_ in load.accepted.items() if id_ not in tasks]
    submits = httpx.get(f"{sandbox.url}/sandbox/submits", timeout=60).json()
    books.faults.update(submit["fault"] for submit in submits if submit["fault"])
    taken: Counter[str] = Counter()
    tried: Counter[str] = Counter()
    for submit in submits:
        task_id = f"task_{urlsplit(submit['body']['callBackUrl']).path.rsplit('/', 1)[1].partition('-')[0]}"
        tried[task_id] += 1
        taken[task_id] += submit["task_id"] is not None
    books.wrong += [f"{task_id} was accepted {count} times upstream" for task_id, count in taken.items() if count > 1]
    for task in tasks.values():
        code = task["error"]["code"] if task["error"] else None
        books.statuses[f"{task['status']}{f' {code}' if code else ''}"] += 1
        if code == "submission_unknown":
            known = "accepted" if taken[task["id"]] else "refused or lost" if tried[task["id"]] else "never arrived"
            books.unknown[known] += 1
        if task["status"] == "succeeded" and not taken[task["id"]]:
            books.wrong.append(f"{task['id']} succeeded but was never accepted")
        if code in {"timeout", "upstream_error"}:
            books.wrong.append(f"{task['id']} ended as {code}")


def _every_task(gateway: GatewayProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = gateway.client.get("/v1/tasks", params={"limit": 200, "cursor": cursor}).json()
        found += page["data"]
        if page["next_cursor"] is None:
            return found
        cursor = page["next_cursor"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0.15, help="seconds between a client's orders")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with PostgresServer() as server:
            books = run(
                directory, server.create_database(), orders=arguments.orders, seed=arguments.seed, pause=arguments.pause
            )
    print(books)  # noqa: T201 -- a command's output
    raise SystemExit(1 if books.wrong else 0)


if __name__ == "__main__":
    main()
