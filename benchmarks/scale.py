"""Times the service's statements on growing histories, optionally with plans."""

import argparse
import asyncio
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from sqlalchemy import event

from app.db.engine import Connection, Database
from app.db.migrate import migrate
from app.logging import configure_logs
from app.upstream.client import UpstreamClient
from benchmarks.bulk import History
from benchmarks.databases import KINDS, Databases
from benchmarks.report import Table, machine
from benchmarks.statements import SMALLEST, Statement, statements

T = TypeVar("T")
_ROWS = (10_000, 100_000, 1_000_000, 5_000_000)
_TIMES = 15
_WARM_UP = 3
# After this total, fewer calls are enough to show that a statement is slow.
_ENOUGH_SECONDS = 3.0
# Growth counts only beyond both limits, as times of tenths of a millisecond vary by more than this factor.
_GROWS_BY = 3.0
_AT_LEAST_SECONDS = 0.002


class _RollBack(Exception):
    """Rolls a transaction back."""


async def measure(kind: str, url: str, sizes: Sequence[int], *, with_plans: bool, times: int = _TIMES) -> Table:
    """Grow a database and time every statement at each size."""
    table = Table(f"Scale, {kind}: median milliseconds", ("statement", *(f"{size:,} tasks" for size in sizes), "grows"))
    database = Database(url)
    client = UpstreamClient(base_url="http://127.0.0.1:9", api_key="none", timeout=1, concurrency=1)
    try:
        await migrate(database)
        history = History(url)
        took: dict[str, list[float]] = {}
        for size in sizes:
            began = time.monotonic()
            await history.grow(size)
            print(f"{kind}: {size:,} tasks after {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            for statement in statements(history, database, client):
                took.setdefault(statement.name, []).append(await _median(database, statement, times))
        table.rows = [(name, *(f"{one * 1000:,.2f}" for one in each), _growth(each)) for name, each in took.items()]
        if with_plans:
            await _print_plans(kind, database, statements(history, database, client))
    finally:
        await client.aclose()
        await database.aclose()
    return table


async def _median(database: Database, statement: Statement, times: int) -> float:
    """Return a statement's median seconds, in transactions rolled back."""
    took: list[float] = []
    while len(took) < _WARM_UP + times and sum(took) < _ENOUGH_SECONDS:
        took.append(await _rolled_back(database, lambda connection: _seconds(statement, connection)))
    return statistics.median(took[_WARM_UP:] or took)


def _growth(took: Sequence[float]) -> str:
    is_more = took[-1] > _GROWS_BY * took[0] and took[-1] - took[0] > _AT_LEAST_SECONDS
    return f"{took[-1] / took[0]:,.0f} times" if is_more else ""


async def _print_plans(kind: str, database: Database, wanted: Sequence[Statement]) -> None:
    for statement in wanted:
        print(f"#### {kind}: {statement.name}\n\n```text")
        for line in await plans(database, statement):
            print(line)
        print("```\n", flush=True)


async def plans(database: Database, statement: Statement) -> list[str]:
    """Return the query plans of everything a statement executes."""
    executed: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, text: str, parameters: Any, _context: Any, is_many: bool) -> None:
        # executemany passes a list of rows; the first is enough to explain the statement.
        executed.append((text, parameters[0] if is_many and isinstance(parameters, list) else parameters))

    def call(connection: Connection) -> None:
        event.listen(connection, "before_cursor_execute", note)
        statement.call(connection)

    await _rolled_back(database, call)
    lines = []
    for text, parameters in executed:
        explain = partial(_explain, text=text, parameters=parameters, database=database)
        lines += [" ".join(text.split()), *await _rolled_back(database, explain)]
    return lines


def _seconds(statement: Statement, connection: Connection) -> float:
    began = time.perf_counter()
    statement.call(connection)
    return time.perf_counter() - began


def _explain(connection: Connection, text: str, parameters: Any, database: Database) -> list[str]:
    words = "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF)" if database.is_postgresql else "EXPLAIN QUERY PLAN"
    rows = connection.exec_driver_sql(f"{words} {text}", parameters)
    # PostgreSQL returns the plan in its only column, SQLite in its last.
    return [f"  {tuple(row)[-1]}" for row in rows]


async def _rolled_back(database: Database, work: Callable[[Connection], T]) -> T:
    results: list[T] = []

    def leave_no_trace(connection: Connection) -> NoReturn:
        results.append(work(connection))
        raise _RollBack

    with suppress(_RollBack):
        await database.write(leave_no_trace)
    return results[0]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    by_name = {kind.lower(): kind for kind in KINDS}
    parser.add_argument("--rows", default=",".join(map(str, _ROWS)), help="comma-separated numbers of tasks")
    parser.add_argument("--database", choices=sorted(by_name), action="append", help="may be repeated; default: both")
    parser.add_argument("--plans", action="store_true", help="show query plans at the last size")
    parser.add_argument("--directory", type=Path, help="where to create databases (default: the temporary directory)")
    given = parser.parse_args()
    given.rows = sorted(int(size.replace("_", "")) for size in given.rows.split(","))
    if given.rows[0] < SMALLEST:
        parser.error(f"at least {SMALLEST:,} rows are needed")
    given.database = [by_name[name] for name in given.database or by_name]
    return given


def _main() -> int:
    given = _parse()
    configure_logs("console", "error", [])
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"{machine('nothing')}\n")
    try:
        with (
            tempfile.TemporaryDirectory(prefix="bench-", dir=given.directory) as own,
            Databases(Path(own)) as databases,
        ):
            for kind in given.database:
                table = asyncio.run(measure(kind, databases.create(kind).url, given.rows, with_plans=given.plans))
                print(f"{table.markdown()}\n", flush=True)
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(_main())
