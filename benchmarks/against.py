"""Compares this code with another revision in alternating rounds."""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from benchmarks.databases import EmptyDatabase
from benchmarks.latency import BACK, OUTWARD, back, outward
from benchmarks.load import UsedUp
from benchmarks.processes import Server
from benchmarks.report import Table, milliseconds, spread
from benchmarks.revision import Revision, SeededPath, Seeder
from benchmarks.session import Session
from benchmarks.throughput import PATHS, WARM_UP_SECONDS, Rounds, check, prepare, run_round
from benchmarks.yardsticks import NoopPost, UsualVerdicts

T = TypeVar("T")
COMPARABLE = tuple(name for name, path in PATHS.items() if path not in {NoopPost, UsualVerdicts})
"""The service's own paths."""
_COLUMNS = (
    "path",
    "database",
    "CPU ms/request now",
    "then",
    "now / then",
    "database's CPU now / then",
    "requests/s now",
    "then",
    "now / then",
    "failed",
)
_LATENCY_TIMES = 20
_ATTEMPTS = 3


@dataclass(slots=True)
class _Side:
    """One revision under measurement."""

    path: SeededPath
    server: Server
    rounds: Rounds


def throughput(session: Session, names: Sequence[str]) -> Table:
    """Compare CPU time and throughput of paths on each database."""
    table = Table(f"Against {session.revisions[1].name}", _COLUMNS)
    for name in names:
        for kind in session.options.databases:
            table.rows.append(_compare(session, name, kind, table))
    table.notes.append(
        f"Median of {session.options.rounds} rounds of {session.options.seconds:g} s; each ratio is the median (min-max) "
        "of the ratios of consecutive rounds."
    )
    return table


def _compare(session: Session, name: str, kind: str, table: Table) -> list[str]:
    with ExitStack() as exits:
        now, then = (_begin(session, exits, revision, name, kind) for revision in session.revisions)
        answers = session.load_noop(seconds=WARM_UP_SECONDS)
        for side in (now, then):
            plan = prepare(side.path, answers.rate * WARM_UP_SECONDS)
            with suppress(UsedUp):
                session.load(side.server.port, plan, seconds=WARM_UP_SECONDS)
        for sides in _orders((now, then), session.options.rounds):
            for side in sides:
                _measure(session, side, answers.rate, table)
    title = [now.path.title, kind]
    if len(now.rounds.cpu) != len(then.rounds.cpu) or not now.rounds.cpu:
        table.failures.append(f"{title[0]}: rounds are missing")
        return [*title, *["-"] * (len(_COLUMNS) - 2)]
    rates = [[outcome.rate for outcome in side.rounds.outcomes] for side in (now, then)]
    database_cpu = now.rounds.database_cpu, then.rounds.database_cpu
    return [
        *title,
        milliseconds(now.rounds.cpu, 3),
        milliseconds(then.rounds.cpu, 3),
        _ratio(now.rounds.cpu, then.rounds.cpu),
        _ratio(*database_cpu) if all(database_cpu) else "-",
        spread(rates[0], 0),
        spread(rates[1], 0),
        _ratio(*rates),
        str(sum(outcome.failed for side in (now, then) for outcome in side.rounds.outcomes)),
    ]


def _begin(session: Session, exits: ExitStack, revision: Revision, name: str, kind: str) -> _Side:
    path = exits.enter_context(SeededPath(revision, name, session.databases.create(kind)))
    return _Side(path, exits.enter_context(session.gateway(path.database, revision)), Rounds())


def _measure(session: Session, side: _Side, noop_rate: float, table: Table) -> None:
    """Measure a round; repeat it with more requests if needed."""
    for attempt in range(_ATTEMPTS):
        plan = prepare(side.path, noop_rate * session.options.seconds * 2**attempt)
        applied = side.path.applied()
        with suppress(UsedUp):
            load = partial(session.load, side.server.port, plan)
            outcome = run_round(side.rounds, side.server, side.path.database, load)
            check(session, side.path, outcome, applied, table)
            return
    table.failures.append(f"{side.path.title}: too few prepared requests in all {_ATTEMPTS} attempts")


def latency(session: Session) -> Table:
    """Compare latencies of an idle service on each database."""
    columns = ("path", "database", "median ms now", "then", "now / then")
    table = Table(f"Latency, idle, against {session.revisions[1].name}", columns)
    for kind in session.options.databases:
        with ExitStack() as exits:
            databases = [session.databases.create(kind) for _ in session.revisions]
            servers = [
                exits.enter_context(session.gateway(database, revision, UPSTREAM_RATE_LIMIT="0"))
                for database, revision in zip(databases, session.revisions, strict=True)
            ]
            ways: dict[str, list[Callable[[], list[float]]]] = {
                OUTWARD: [partial(outward, session, server, _LATENCY_TIMES) for server in servers],
                BACK: [
                    partial(_back, revision, database, server)
                    for revision, database, server in zip(session.revisions, databases, servers, strict=True)
                ],
            }
            for way, sides in ways.items():
                table.rows.append((way, kind, *_latencies(sides, session.options.rounds)))
    table.notes.append(f"{session.options.rounds * _LATENCY_TIMES} times each, in turns of {_LATENCY_TIMES}.")
    return table


def _back(revision: Revision, database: EmptyDatabase, server: Server) -> list[float]:
    with Seeder(revision, database) as seeder:
        verdicts = seeder.call("verdicts", _LATENCY_TIMES)
    return back(server, [(task_id, verdict.encode("latin-1")) for task_id, verdict in verdicts])


def _latencies(sides: Sequence[Callable[[], list[float]]], rounds: int) -> list[str]:
    took: dict[int, list[float]] = {0: [], 1: []}
    for order in _orders((0, 1), rounds):
        for side in order:
            took[side] += sides[side]()
    medians = [statistics.median(took[side]) for side in (0, 1)]
    return [f"{medians[0]:.1f}", f"{medians[1]:.1f}", f"{medians[0] / medians[1]:.2f}"]


def _ratio(now: Sequence[float], then: Sequence[float]) -> str:
    return spread([one / other for one, other in zip(now, then, strict=True)])


def _orders(sides: tuple[T, T], rounds: int) -> Iterator[Sequence[T]]:
    """Yield both sides for each round, alternating the first."""
    for number in range(rounds):
        yield sides if number % 2 == 0 else sides[::-1]
