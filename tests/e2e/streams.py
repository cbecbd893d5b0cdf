"""The stream run: one replica takes orders, clients follow another.

One client follows throughout, one keeps leaving and resuming, and many wait for single tasks. Both streams must contain
all events once and in order. Meanwhile, the replicas lose their PostgreSQL notification connections. For longer runs:
python -m tests.e2e.streams --orders 1000
"""

import argparse
import asyncio
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx

from app.sandbox.behavior import Behavior
from app.sandbox.server import SandboxServer
from tests.e2e.load import Load
from tests.support.clients.event_reader import EventReader
from tests.support.databases.postgres import PostgresServer, stored_events
from tests.support.servers.gateway_process import GatewayProcess

_SETTINGS = {
    "NANOBANANA_API_KEY": "stream-run",
    "SECRET_KEY": "stream-run-secret",
    "UPSTREAM_RATE_LIMIT": "0",
}
_WAITERS = 8
_EVENTS_BETWEEN_LEAVES = 150
_CUT_LISTENERS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE application_name = 'nanobanana-gateway notifications' AND datname = current_database()
"""


@dataclass
class Account:
    """The results of a run, and the errors found."""

    orders: int
    events: int = 0
    followed: int = 0
    resumed: int = 0
    leaves: int = 0
    waited: int = 0
    listeners_cut: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


def run(directory: Path, database_url: str, *, orders: int) -> Account:
    """Run until all orders have ended and clients know."""
    began = time.monotonic()
    account = Account(orders)
    sandbox = SandboxServer(behavior=Behavior.from_dict({"delay_seconds": [0.05, 0.5]}))
    sandbox.start()
    environment = {**_SETTINGS, "DATABASE_URL": database_url, "NANOBANANA_BASE_URL": sandbox.url}
    try:
        with (
            GatewayProcess(directory / "a", environment) as replica,
            GatewayProcess(directory / "b", environment) as other,
            EventReader(str(other.client.base_url), "/v1/events") as follower,
            ThreadPoolExecutor(_WAITERS + 1) as pool,
        ):
            load = Load(lambda: [f"http://127.0.0.1:{replica.port}"], orders)
            resuming = pool.submit(_follow_in_pieces, other, load, account)
            waiting = [pool.submit(_wait_for_some, other, load, part) for part in range(_WAITERS)]
            load.start()
            load.wait_for(lambda: len(load.accepted) > orders // 2, seconds=300, what="half of the orders")
            account.listeners_cut = asyncio.run(_cut_listeners(database_url))
            load.join(300)
            account.waited = sum(future.result() for future in waiting)
            resumed = resuming.result()
            expected = asyncio.run(stored_events(database_url))
            follower.wait(lambda it: len(it.ids) >= len(expected), seconds=60, what="the last event")
            followed = [(e.id, e.data["id"], e.type) for e in follower.events]
    finally:
        sandbox.stop()
    account.events, account.followed, account.resumed = len(expected), len(followed), len(resumed)
    if followed != expected:
        account.wrong.append("the following client's events differ from those committed")
    if resumed != [event_id for event_id, _, _ in expected]:
        account.wrong.append("the resuming client's events differ from those committed")
    ended = sum(kind in {"task.succeeded", "task.failed"} for _, _, kind in expected)
    if ended != orders or account.waited != orders:
        account.wrong.append(f"{ended} tasks ended, waiting clients saw {account.waited}")
    account.wrong += load.odd_answers
    account.seconds = time.monotonic() - began
    return account


def _follow_in_pieces(gateway: GatewayProcess, load: Load, account: Account) -> list[int]:
    """Follow from the beginning, leaving and resuming, until all end."""
    seen: list[int] = []
    ended = 0
    while ended < load.count:
        with EventReader(str(gateway.client.base_url), "/v1/events", last_id=seen[-1] if seen else 0) as stream:
            stream.wait(
                lambda it, ended=ended: (  # type: ignore[misc]
                    len(it.events) >= _EVENTS_BETWEEN_LEAVES
                    or ended + sum(e.data["completed_at"] is not None for e in list(it.events)) >= load.count
                ),
                seconds=300,
                what="more events",
            )
        seen += stream.ids
        ended += sum(event.data["completed_at"] is not None for event in stream.events)
        account.leaves += 1
    return seen


def _wait_for_some(gateway: GatewayProcess, load: Load, part: int) -> int:
    """Wait for every `_WAITERS`-th task; return how many ended."""
    ended = 0
    with httpx.Client(base_url=gateway.client.base_url, timeout=90) as client:
        for number in range(part, load.count, _WAITERS):
            task_id = load.wait_for(
                lambda number=number: next(iter(list(load.accepted.values())[number : number + 1]), None),  # type: ignore[misc]
                seconds=300,
                what="an order",
            )
            answer = client.get(f"/v1/tasks/{task_id}", params={"wait": 60}).json()
            ended += answer["status"] in {"succeeded", "failed"}
    return ended


async def _cut_listeners(database_url: str) -> int:
    connection = await asyncpg.connect(database_url)
    try:
        return int(await connection.fetchval(_CUT_LISTENERS))
    finally:
        await connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with PostgresServer() as server:
            account = run(directory, server.create_database(), orders=arguments.orders)
    print(account)  # noqa: T201 -- a command's output
    raise SystemExit(1 if account.wrong else 0)


if __name__ == "__main__":
    main()
