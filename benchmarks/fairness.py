"""Overload: whether all clients slow down equally or some starve."""

import statistics

from benchmarks.load import Bundled, Outcome, UsedUp
from benchmarks.paths import Path, Reads, Submits, Verdicts
from benchmarks.report import Table
from benchmarks.session import Session

CLIENTS = (128, 256, 512)
_PATHS: tuple[type[Path], ...] = (Verdicts, Submits, Reads)
# More than any of these paths can serve.
_MOST_PER_SECOND = 12_000
_COLUMNS = (
    "path",
    "database",
    "clients",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "longest ms",
    "longest/median",
    "responses per client, min-median-max",
    "failed",
)


def measure(session: Session) -> Table:
    """Measure with increasing numbers of clients."""
    # Only the bundled generator reports each connection.
    table = Table("Many clients", _COLUMNS)
    generator = Bundled()
    seconds = session.options.seconds
    for kind in session.options.databases:
        for make_path in _PATHS:
            path = make_path(session.databases.create(kind))
            with path.server(session) as server:
                for clients in CLIENTS:
                    plan = path.plan(round(seconds * _MOST_PER_SECOND))
                    path.settle()
                    try:
                        outcome = generator.run(server.port, plan, connections=clients, seconds=seconds)
                    except UsedUp:
                        table.failures.append(f"{path.title}: {len(plan.requests)} prepared requests were not enough")
                        continue
                    table.rows.append([path.title, kind, str(clients), *_cells(outcome)])
    table.notes.append(f"Load by the bundled generator for {seconds:g} s, until all responses have arrived.")
    return table


def _cells(outcome: Outcome) -> list[str]:
    each = outcome.per_connection or [0]
    return [
        f"{outcome.rate:,.0f}",
        f"{outcome.p50 * 1000:.0f}",
        f"{outcome.p99 * 1000:.0f}",
        f"{outcome.longest * 1000:.0f}",
        f"{outcome.longest / max(outcome.p50, 1e-6):.1f}",
        f"{min(each)}-{statistics.median(each):g}-{max(each)}",
        str(outcome.failed),
    ]
