"""Startup time, from the process's start until `/readyz` is 200."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.databases import SQLITE, EmptyDatabase
from benchmarks.report import Table, spread
from benchmarks.revision import Revision
from benchmarks.session import Session

_STARTS = 5
_SANDBOX = {"NANOBANANA_API_KEY": ""}


@dataclass(slots=True)
class _Starts:
    """Seconds until ready, and CPU seconds used until then."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


def measure(session: Session) -> Table:
    """Measure starts on each database, alternating between revisions."""
    table = Table("Start until `/readyz`", _columns(session.revisions))
    for kind in session.options.databases:
        table.rows.append(_row(session, "first start, empty database", kind, is_first=True))
        table.rows.append(_row(session, "restart", kind))
        if kind == SQLITE:
            table.rows.append(_row(session, "restart with the sandbox", kind, settings=_SANDBOX))
    table.notes.append(f"Median of {_times(session)} starts (min-max).")
    return table


def _columns(revisions: Sequence[Revision]) -> list[str]:
    if len(revisions) == 1:
        return ["start", "database", "seconds", "CPU s"]
    return ["start", "database", "seconds now", "then", "now / then", "CPU s now", "then", "now / then"]


def _times(session: Session) -> int:
    return _STARTS * session.options.rounds


def _row(
    session: Session, title: str, kind: str, *, is_first: bool = False, settings: Mapping[str, str] | None = None
) -> list[str]:
    databases = [session.databases.create(kind) for _ in session.revisions]
    if not is_first:
        for revision, database in zip(session.revisions, databases, strict=True):
            _start(session, revision, database, _Starts(), settings)
    starts = [_Starts() for _ in session.revisions]
    for _ in range(_times(session)):
        for number, revision in enumerate(session.revisions):
            database = session.databases.create(kind) if is_first else databases[number]
            _start(session, revision, database, starts[number], settings)
    return [title, kind, *_cells([one.seconds for one in starts]), *_cells([one.cpu for one in starts])]


def _start(
    session: Session, revision: Revision, database: EmptyDatabase, starts: _Starts, settings: Mapping[str, str] | None
) -> None:
    with session.gateway(database, revision, **(settings or {})) as server:
        starts.seconds.append(server.seconds_until_ready)
        starts.cpu.append(server.usage().cpu_seconds)


def _cells(of_revisions: Sequence[Sequence[float]]) -> list[str]:
    cells = [spread(numbers) for numbers in of_revisions]
    if len(of_revisions) > 1:
        cells.append(spread([now / then for now, then in zip(*of_revisions, strict=True)]))
    return cells
