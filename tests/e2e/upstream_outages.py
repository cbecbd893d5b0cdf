"""Measures the cost of upstream outages in tasks and time.

To print a table: python -m tests.e2e.upstream_outages --tasks 60 --seconds 25
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.servers.gateway_process import GatewayProcess
from tests.support.servers.vendor import Reply, Vendor, accepted, envelope, record
from tests.support.waiting import until

_SETTINGS = {
    "NANOBANANA_API_KEY": "outage-run",
    "UPSTREAM_RATE_LIMIT": "0",
    "UPSTREAM_TIMEOUT_SECONDS": "2",
    "POLL_AFTER_SECONDS": "1",
    "TASK_TIMEOUT_SECONDS": "20",
    "HOLD_RETRY_SECONDS": "10",
}
_PAGE = b"<html><title>An error page</title></html>"
_RECOVERY_SECONDS = 150.0

KINDS: dict[str, Reply | None] = {
    "502 page": Reply(_PAGE, status=502),
    "500 page": Reply(_PAGE, status=500),
    "521 page": Reply(_PAGE, status=521),
    "time-out": Reply(delay=3.0, hang_up=True),
    "code 455": envelope(455, "maintenance"),
    "503 page": Reply(_PAGE, status=503),
    "code 500": envelope(500, "internal error"),
    "429": envelope(429, "slow down", status=429),
    "429, Retry-After: 3600": envelope(429, "slow down", status=429, Retry_After="3600"),
    "no connection": None,
    "no credits, then time-outs": Reply(delay=3.0, hang_up=True),
}


@dataclass
class Cost:
    """The cost of one outage."""

    kind: str
    tasks: int
    sent: int = 0
    """Attempts until the end of the outage."""
    lost: Counter[str] = field(default_factory=Counter)
    """Tasks that failed, by error code."""
    first_seconds: float | None = None
    """From the end of the outage to the first task accepted after it."""
    all_seconds: float | None = None
    """From the end of the outage to the end of the last task."""


def run(directory: Path, kind: str, *, tasks: int, seconds: float, **settings: str) -> Cost:
    """Queue tasks during an outage, then wait until all finish."""
    cost, vendor = Cost(kind, tasks), Vendor()
    environment = {**_SETTINGS, "NANOBANANA_BASE_URL": vendor.url, **settings}
    with GatewayProcess(directory, environment) as gateway:
        try:
            if kind.startswith("no credits"):
                vendor.on_submit = lambda _: envelope(402, "no credits")
                gateway.client.submit()
                until(lambda: gateway.client.get("/readyz").json()["upstream"]["state"] == "held", what="the hold")
            began = time.monotonic()
            _break(vendor, KINDS[kind])
            ids = [gateway.client.submit()["id"] for _ in range(tasks)]
            time.sleep(max(seconds - (time.monotonic() - began), 0))  # the length of the outage
            cost.sent = sum(gateway.client.task(task_id)["attempts"] for task_id in ids)
            vendor = _mend(vendor)
            mended = time.monotonic()
            _watch(gateway, vendor, ids, mended, cost)
        finally:
            vendor.close()
    return cost


def _break(vendor: Vendor, reply: Reply | None) -> None:
    if reply is None:
        vendor.close()
    else:
        vendor.on_submit, vendor.on_poll, vendor.on_credit = lambda _: reply, lambda _: reply, lambda: reply


def _mend(broken: Vendor) -> Vendor:
    """Let the vendor recover at the same address."""
    if broken.is_closed:
        broken = Vendor(broken.port)
    broken.submits.clear()
    broken.on_credit = lambda: Reply({"code": 200, "msg": "success", "data": 100})
    broken.on_poll = lambda upstream_id: record(
        upstream_id, 1, response={"resultImageUrl": "https://tempfile.example/a.png"}
    )
    broken.on_submit = lambda _: accepted()
    return broken


def _watch(gateway: GatewayProcess, vendor: Vendor, ids: Sequence[str], mended: float, cost: Cost) -> None:
    left, deadline = set(ids), mended + _RECOVERY_SECONDS
    while left and time.monotonic() < deadline:
        for task_id in sorted(left):
            task = gateway.client.task(task_id)
            if task["status"] in {"succeeded", "failed"}:
                left.remove(task_id)
                if task["status"] == "failed":
                    cost.lost[task["error"]["code"]] += 1
        time.sleep(0.1)
    cost.all_seconds = None if left else time.monotonic() - mended
    if vendor.submits:
        cost.first_seconds = vendor.submits[0].at - mended


def run_all(kinds: Sequence[str], *, tasks: int, seconds: float, at_once: int = 4) -> list[Cost]:
    """Run several kinds of outages."""
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(at_once) as pool:

        def one(number: int) -> Cost:
            return run(Path(name) / f"{number}", kinds[number], tasks=tasks, seconds=seconds)

        return list(pool.map(one, range(len(kinds))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=25)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    arguments = parser.parse_args()
    print("| outage | sent meanwhile | lost | first task accepted after | all tasks ended after |")  # noqa: T201
    print("|---|---|---|---|---|")  # noqa: T201 -- a command's output
    for cost in run_all(arguments.kinds, tasks=arguments.tasks, seconds=arguments.seconds):
        lost = ", ".join(f"{count} {code}" for code, count in sorted(cost.lost.items())) or "none"
        first, everything = (
            "never" if value is None else f"{value:.1f} s" for value in (cost.first_seconds, cost.all_seconds)
        )
        print(f"| {cost.kind} | {cost.sent} | {lost} | {first} | {everything} |")  # noqa: T201


if __name__ == "__main__":
    main()
