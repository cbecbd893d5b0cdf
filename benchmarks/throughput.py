"""Requests per second of each path, compared with a no-op."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from benchmarks.databases import EmptyDatabase
from benchmarks.load import Outcome, Plan, UsedUp
from benchmarks.paths import KeyedSubmits, Lists, Path, Reads, ReadsOfShortQueue, Submits, Verdicts
from benchmarks.processes import Server
from benchmarks.report import Table, mebibytes, milliseconds, spread
from benchmarks.session import Session
from benchmarks.yardsticks import NoopPost, UsualVerdicts

PATHS: dict[str, type[Path]] = {
    path.name: path
    for path in (NoopPost, Verdicts, Submits, KeyedSubmits, Reads, ReadsOfShortQueue, Lists, UsualVerdicts)
}
_COLUMNS = (
    "path",
    "database",
    "ratio to the no-op",
    "requests/s",
    "p50 ms",
    "p99 ms",
    "CPU ms/request",
    "of the database's server",
    "RSS MiB",
    "failed",
)
WARM_UP_SECONDS = 1.0
# How many requests to prepare, as a multiple of what the no-op endpoint serves in the same time.
_MARGIN = 2.5


class Prepared(Protocol):
    """A path whose database is ready."""

    @property
    def title(self) -> str:
        """The path's name in tables."""

    @property
    def database(self) -> EmptyDatabase:
        """The path's database."""

    def plan(self, at_most: int) -> Plan:
        """Prepare up to `at_most` requests."""

    def settle(self) -> None:
        """Let the database finish maintenance after inserts."""

    def applied(self) -> int | None:
        """Count committed changes."""


@dataclass(slots=True)
class Rounds:
    """One path's results; CPU times are seconds per response."""

    ratios: list[float] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    database_cpu: list[float] = field(default_factory=list)
    rss: int = 0

    def cells(self) -> list[str]:
        """Format the table cells, from the rate on."""
        if not self.outcomes:
            return ["-"] * 7
        return [
            spread([outcome.rate for outcome in self.outcomes], 0),
            milliseconds([outcome.p50 for outcome in self.outcomes]),
            milliseconds([outcome.p99 for outcome in self.outcomes]),
            milliseconds(self.cpu, 3),
            milliseconds(self.database_cpu, 3) if self.database_cpu else "-",
            mebibytes(self.rss),
            str(sum(outcome.failed for outcome in self.outcomes)),
        ]


def measure(session: Session, names: list[str]) -> Table:
    """Measure paths on each database."""
    table = Table("Throughput", _COLUMNS)
    noop = Rounds()
    for name in names:
        is_bare = PATHS[name] is NoopPost
        for kind in session.options.databases[:1] if is_bare else session.options.databases:
            path = PATHS[name](session.databases.create(kind))
            with path.server(session) as server:
                rounds = _alternate(session, path, server, noop, table)
            ratio = spread(rounds.ratios) if rounds.ratios else "-"
            table.rows.append([path.title, "-" if is_bare else kind, ratio, *rounds.cells()])
    table.rows.insert(0, ["no-op `GET`", "-", "1", *noop.cells()])
    table.notes.append(
        f"Median of {session.options.rounds} rounds of {session.options.seconds:g} s (min-max), "
        f"{session.options.connections} connections, each round after one of the no-op endpoint."
    )
    return table


def _alternate(session: Session, path: Path, server: Server, noop: Rounds, table: Table) -> Rounds:
    """Alternate between no-op and path, so noise affects both."""
    rounds = Rounds()
    seconds = min(WARM_UP_SECONDS, session.options.seconds)
    warm = session.load_noop(seconds=seconds)
    with suppress(UsedUp):
        session.load(server.port, prepare(path, warm.rate * warm.seconds), seconds=seconds)
    for _ in range(session.options.rounds):
        yardstick = run_round(noop, session.noop, None, session.load_noop)
        plan = prepare(path, yardstick.rate * yardstick.seconds)
        applied = path.applied()
        try:
            outcome = run_round(rounds, server, path.database, partial(session.load, server.port, plan))
        except UsedUp:
            table.failures.append(f"{path.title}: {len(plan.requests)} prepared requests were not enough")
            continue
        rounds.ratios.append(outcome.rate / yardstick.rate)
        check(session, path, outcome, applied, table)
    return rounds


def prepare(path: Prepared, answers: float) -> Plan:
    """Prepare enough requests, given the no-op's number of responses."""
    plan = path.plan(round(answers * _MARGIN) + 1)
    path.settle()
    return plan


def run_round(rounds: Rounds, server: Server, database: EmptyDatabase | None, load: Callable[[], Outcome]) -> Outcome:
    """Put load on a server; record the outcome and cost."""
    used, database_used = server.usage(), database.server_cpu_seconds() if database else None
    outcome = load()
    uses, database_uses = server.usage(), database.server_cpu_seconds() if database else None
    answered = max(outcome.answered, 1)
    rounds.outcomes.append(outcome)
    rounds.cpu.append((uses.cpu_seconds - used.cpu_seconds) / answered)
    if database_uses is not None and database_used is not None:
        rounds.database_cpu.append((database_uses - database_used) / answered)
    rounds.rss = uses.rss_bytes
    return outcome


def check(session: Session, path: Prepared, outcome: Outcome, before: int | None, table: Table) -> None:
    """Check responses against the database."""
    # Requests in progress at the end may be committed without a response.
    after = path.applied()
    if before is None or after is None:
        return
    surplus = after - before - outcome.answered
    if not 0 <= surplus <= session.options.connections:
        table.failures.append(
            f"{path.title} on {path.database.kind}: {outcome.answered} responses, {after - before} in the database"
        )
