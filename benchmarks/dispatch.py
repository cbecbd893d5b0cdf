"""Dispatch throughput, compared with a bare loop of httpx calls."""

import time

from app.domain.task import Status
from benchmarks.processes import run_python
from benchmarks.report import Table, milliseconds, spread
from benchmarks.seeding import Store
from benchmarks.session import Session

CONCURRENCIES = (16, 64)
_TASKS_PER_SECOND = 400
_PATIENCE_SECONDS = 180
_PAUSE_SECONDS = 0.25


def measure(session: Session) -> Table:
    """Measure each concurrency on each database."""
    columns = ("concurrency", "database", "ratio to the bare loop", "tasks/s", "bare loop, calls/s", "CPU ms/task")
    table = Table("Dispatch, with an upstream that responds immediately", columns)
    count = max(round(session.options.seconds * _TASKS_PER_SECOND), 1)
    for concurrency in CONCURRENCIES:
        for kind in session.options.databases:
            bare, rates, cpu = [], [], []
            for _ in range(session.options.rounds):
                bare.append(_bare_rate(session, count, concurrency))
                rate, cpu_seconds = _dispatch_rate(session, kind, count, concurrency)
                rates.append(rate)
                cpu.append(cpu_seconds / count)
            ratios = [rate / yardstick for rate, yardstick in zip(rates, bare, strict=True)]
            row = (str(concurrency), kind, spread(ratios), spread(rates, 0), spread(bare, 0), milliseconds(cpu, 3))
            table.rows.append(row)
    table.notes.append(
        f"Median of {session.options.rounds} rounds (min-max) of {count:,} queued tasks; each round starts a new process, "
        "and its start counts toward the CPU time but not the rate."
    )
    return table


def _bare_rate(session: Session, count: int, concurrency: int) -> float:
    numbers = ("--count", str(count), "--concurrency", str(concurrency))
    return float(run_python("benchmarks.bare_client", session.upstream.url, *numbers, seconds=_PATIENCE_SECONDS))


def _dispatch_rate(session: Session, kind: str, count: int, concurrency: int) -> tuple[float, float]:
    """Dispatch `count` tasks; return tasks per second and CPU seconds."""
    database = session.databases.create(kind)
    store = Store(database.url)
    store.add_queued(count)
    store.settle()
    with session.gateway(database, UPSTREAM_RATE_LIMIT="0", UPSTREAM_CONCURRENCY=str(concurrency)) as server:
        wait_until_sent(store)
        cpu_seconds = server.usage().cpu_seconds
    first, last = store.first_claim_and_last_reply()
    return count * 1000 / max(last - first, 1), cpu_seconds


def wait_until_sent(store: Store) -> None:
    """Wait until no task is queued or being submitted."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while store.count(Status.QUEUED, Status.SUBMITTING):
        if time.monotonic() > deadline:
            raise RuntimeError("the queue was not sent in time")
        time.sleep(_PAUSE_SECONDS)
