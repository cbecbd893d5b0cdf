"""The webhook run: kills replicas while the receiver is unreliable.

All webhooks must arrive. For longer runs: python -m tests.e2e.webhooks --orders 2000
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

import httpx
from standardwebhooks import Webhook, WebhookVerificationError

from app.sandbox.behavior import Behavior
from app.sandbox.server import SandboxServer
from tests.e2e.load import Load
from tests.support.databases.postgres import PostgresServer
from tests.support.servers.gateway_process import GatewayProcess
from tests.support.servers.webhook_receiver import ReceivedWebhook, Receiver, ReceiverReply
from tests.support.waiting import until

_SETTINGS = {
    "NANOBANANA_API_KEY": "webhook-run",
    "SECRET_KEY": "webhook-run-secret",
    "UPSTREAM_RATE_LIMIT": "0",
    "UPSTREAM_TIMEOUT_SECONDS": "2",
    "POLL_AFTER_SECONDS": "1",
    "TASK_TIMEOUT_SECONDS": "15",
    "ALLOW_NETWORKS": "127.0.0.0/8",
    "WEBHOOK_RETRY_SCHEDULE": ",".join(["1"] * 20),
}


@dataclass
class Tally:
    """The results of a run, and the errors found."""

    orders: int
    kills: int = 0
    kills_in_hand: int = 0
    """Kills while webhooks were committed but not yet delivered."""
    events: Counter[str] = field(default_factory=Counter)
    deliveries: Counter[str] = field(default_factory=Counter)
    """By state."""
    tries: int = 0
    """Recorded attempts; those of killed replicas are missing."""
    arrived: int = 0
    repeated: int = 0
    """Arrivals of messages that had already been accepted with 200."""
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


def run(directory: Path, database_url: str, *, orders: int, down_seconds: float, pause: float, seed: int = 0) -> Tally:
    """Order tasks, kill replicas, stop the receiver; then check arrivals."""
    began = time.monotonic()
    tally = Tally(orders)
    receiver, moods = Receiver(), _Moods(random.Random(seed))
    receiver.on_post = moods.answer
    sandbox = SandboxServer(behavior=Behavior.from_dict({"seed": seed, "delay_seconds": [0.05, 0.5], "fail_501": 0.2}))
    sandbox.start()
    environment = {**_SETTINGS, "DATABASE_URL": database_url, "NANOBANANA_BASE_URL": sandbox.url}
    running = [GatewayProcess(directory / str(n), environment) for n in range(2)]
    addresses = [f"http://127.0.0.1:{one.port}" for one in running]
    load = Load(lambda: addresses, orders, pause=pause, extra={"webhook_url": receiver.url})
    load.start()
    draw = random.Random(seed + 1)
    try:
        load.wait_for(lambda: len(load.accepted) >= orders // 4, seconds=120, what="a quarter of the orders")
        receiver.stop()
        down_until = time.monotonic() + down_seconds
        while len(load.accepted) < orders or not receiver.is_up:
            time.sleep(draw.uniform(0.5, 1.5))  # kills must happen at random times, so there is nothing to wait for
            if not receiver.is_up and time.monotonic() >= down_until:
                receiver.start()
            victim = draw.randrange(2)
            tally.kills_in_hand += bool(_deliveries(running[1 - victim], state="pending", limit=1))
            running[victim].stop(signal.SIGKILL)
            tally.kills += 1
            running[victim] = GatewayProcess(directory / str(victim), environment, port=running[victim].port)
        load.join(60)
        _balance(running[0], receiver, load, tally)
        tally.repeated = moods.taken.total() - len(moods.taken)
    finally:
        for one in running:
            one.stop(signal.SIGKILL)
        sandbox.stop()
        receiver.stop()
    tally.wrong += load.odd_answers
    tally.seconds = round(time.monotonic() - began, 1)
    return tally


class _Moods:
    """Randomly fails, hangs up or delays; counts accepted messages."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self.taken: Counter[str] = Counter()

    def answer(self, arrived: ReceivedWebhook) -> ReceiverReply:
        time.sleep(self._draw.uniform(0, 0.2))
        mood = self._draw.random()
        if mood < 0.1:
            return ReceiverReply(500, b"not today")
        if mood < 0.15:
            return ReceiverReply(hang_up=True)
        self.taken[arrived.headers["webhook-id"]] += 1
        return ReceiverReply(200, b"taken")


def _balance(gateway: GatewayProcess, receiver: Receiver, load: Load, tally: Tally) -> None:
    def ended() -> bool:
        active = ("queued", "submitting", "processing")
        return not any(_ask(gateway, "/v1/tasks", status=s)["data"] for s in active)

    until(ended, seconds=120, what="the end of all tasks")
    until(lambda: not _deliveries(gateway, state="pending", limit=1), seconds=180, what="the end of all deliveries")
    secret = Webhook(_ask(gateway, "/v1/webhook-secret")["secret"])
    by_id: Counter[str] = Counter()
    for one in receiver.arrived:
        by_id[one.headers["webhook-id"]] += 1
        try:
            # Skip older messages: the library rejects timestamps older than five minutes.
            stamp = one.headers["webhook-timestamp"]
            if abs(int(stamp) - time.time()) < 240:
                secret.verify(one.body, one.headers)
        except WebhookVerificationError as error:
            tally.wrong.append(f"{one.headers['webhook-id']}: {error}")
    notified: dict[str, list[str]] = {}
    for delivery in _deliveries(gateway, limit=200):
        tally.deliveries[delivery["state"]] += 1
        tally.events[delivery["event"]] += 1
        tally.tries += len(delivery["attempts"])
        notified.setdefault(delivery["task_id"], []).insert(0, delivery["event"])
        if delivery["state"] != "delivered" or not by_id[delivery["id"]]:
            tally.wrong.append(f"{delivery['id']} is {delivery['state']} and arrived {by_id[delivery['id']]} times")
    tally.arrived = len(receiver.arrived)
    for task_id in load.accepted.values():
        status = _ask(gateway, f"/v1/tasks/{task_id}")["status"]
        if notified.get(task_id, ["nothing"])[-1] != f"task.{status}":
            tally.wrong.append(f"{task_id} is {status}, but its webhooks were {notified.get(task_id)}")


def _deliveries(gateway: GatewayProcess, *, limit: int, **query: str) -> list[dict[str, Any]]:
    """List deliveries, newest first; only one if `limit` is 1."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = _ask(gateway, "/v1/webhook-deliveries", limit=limit, cursor=cursor, **query)
        found += page["data"]
        if page["next_cursor"] is None or limit == 1:
            return found
        cursor = page["next_cursor"]


def _ask(gateway: GatewayProcess, path: str, **query: str | int) -> Any:
    # Over a fresh connection, as the service may close an idle one just as a request is sent.
    response = gateway.client.get(path, params=query, headers={"Connection": "close"})
    assert response.status_code == httpx.codes.OK, response.text
    return response.json()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=2000)
    parser.add_argument("--down", type=float, default=15, help="seconds of downtime of the receiver")
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between a client's orders")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with PostgresServer() as server:
            tally = run(
                directory,
                server.create_database(),
                orders=arguments.orders,
                down_seconds=arguments.down,
                pause=arguments.pause,
                seed=arguments.seed,
            )
    print(tally)  # noqa: T201 -- a command's output
    raise SystemExit(1 if tally.wrong else 0)


if __name__ == "__main__":
    main()
