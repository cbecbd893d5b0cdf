"""Memory per task in flight."""

import time

from benchmarks.dispatch import wait_until_sent
from benchmarks.load import Plan, request
from benchmarks.report import Table, mebibytes
from benchmarks.seeding import Store
from benchmarks.session import Session

SEEDED = 100_000
"""Tasks in `processing` when the service starts."""
_SENT = 2_000
_REST_SECONDS = 2.0


def measure(session: Session) -> Table:
    """Measure on each database."""
    few, many = f"{_SENT:,} in flight", f"{SEEDED + _SENT:,} in flight"
    table = Table("Memory", ("database", f"RSS MiB, {few}", f"RSS MiB, {many}", "bytes per task"))
    for kind in session.options.databases:
        base, loaded = (_resident(session, kind, seeded) for seeded in (0, SEEDED))
        table.rows.append((kind, mebibytes(base), mebibytes(loaded), f"{(loaded - base) / SEEDED:,.0f}"))
    table.notes.append(f"In both cases, the service submitted {_SENT:,} of the tasks and then served reads of them.")
    return table


def _resident(session: Session, kind: str, seeded: int) -> int:
    """Return the resident bytes with seeded tasks in flight."""
    database = session.databases.create(kind)
    store = Store(database.url)
    if seeded:
        store.add_processing(seeded)
    sent = store.add_queued(_SENT)
    store.settle()
    with session.gateway(database, UPSTREAM_RATE_LIMIT="0") as server:
        wait_until_sent(store)
        session.load(server.port, Plan([request("GET", f"/v1/tasks/{task.id}") for task in sent]))
        time.sleep(_REST_SECONDS)
        return server.usage().rss_bytes
