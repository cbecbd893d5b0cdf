"""Benchmark the service against a no-op endpoint; print Markdown tables."""

import argparse
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import against, dispatch, fairness, latency, memory, startup, throughput
from benchmarks.databases import KINDS
from benchmarks.neighbors import Neighbors
from benchmarks.report import Table, machine
from benchmarks.session import Options, Session

_BY_NAME = {kind.lower(): kind for kind in KINDS}
_OTHERS: dict[str, Callable[[Session], Table]] = {
    "dispatch": dispatch.measure,
    "latency": latency.measure,
    "memory": memory.measure,
    "fairness": fairness.measure,
    "startup": startup.measure,
}
_NAMES = (*throughput.PATHS, *_OTHERS)
_COMPARED: dict[str, Callable[[Session], Table]] = {"latency": against.latency, "startup": startup.measure}
_COMPARABLE = (*against.COMPARABLE, *_COMPARED)


def run(names: list[str], options: Options, directory: Path | None = None) -> list[Table]:
    """Run benchmarks by name and print each table when ready."""
    of_paths, others = (throughput.measure, _OTHERS) if options.against is None else (against.throughput, _COMPARED)
    paths = [name for name in names if name in throughput.PATHS]
    measures = [others[name] for name in names if name in others]
    if paths:
        measures.insert(0, lambda session: of_paths(session, paths))
    tables = []
    with tempfile.TemporaryDirectory(prefix="bench-", dir=directory) as own, Session(Path(own), options) as session:
        print(f"{machine(session.generator.name)}\n", flush=True)
        for measure in measures:
            neighbors = Neighbors(session.databases)
            table = measure(session)
            table.notes.append(neighbors.note())
            print(f"{table.markdown()}\n", flush=True)
            tables.append(table)
    return tables


def _listed(allowed: tuple[str, ...], text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in allowed]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'}: choose from {', '.join(allowed)}")
    return names


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--only",
        type=lambda text: _listed(_NAMES, text),
        help=f"comma-separated: {', '.join(_NAMES)} (default: all)",
    )
    parser.add_argument(
        "--against",
        metavar="REV",
        help=f"alternate with another revision; supports {', '.join(_COMPARABLE)}",
    )
    parser.add_argument(
        "--database",
        type=lambda text: _listed(tuple(_BY_NAME), text),
        default=list(_BY_NAME),
        help="comma-separated: sqlite, postgresql (default: both)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each measurement (default: 3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a round (default: 2; wrk rounds it)")
    parser.add_argument("--connections", type=int, default=128, help="concurrent connections (default: 128)")
    parser.add_argument("--generator", choices=["wrk", "bundled"], help="default: wrk where installed")
    parser.add_argument("--directory", type=Path, help="where to create databases (default: the temporary directory)")
    given = parser.parse_args()
    given.only = given.only or list(_NAMES if given.against is None else _COMPARABLE)
    if given.against is not None and (others := [name for name in given.only if name not in _COMPARABLE]):
        parser.error(f"{', '.join(others)}: no comparison with another revision")
    return given


def _main() -> int:
    given = _parse()
    # Like Ctrl-C, these stop everything that was started.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    options = Options(
        databases=tuple(_BY_NAME[name] for name in given.database),
        rounds=given.rounds,
        seconds=given.seconds,
        connections=given.connections,
        generator=given.generator,
        against=given.against,
    )
    try:
        tables = run(given.only, options, given.directory)
    except KeyboardInterrupt:
        return 130
    return 1 if any(table.failures for table in tables) else 0


if __name__ == "__main__":
    sys.exit(_main())
