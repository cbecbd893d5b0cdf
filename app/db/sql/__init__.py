"""SQL files for hot paths, which handle many rows.

The rows travel as one JSON document, which the database parses or builds: one statement per row costs 40 % more CPU
per result on SQLite and 60 % on PostgreSQL (2026-11). The first line of each file describes it.
"""

import re
from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, CursorResult, TextClause, text

from app.db.engine.json import dumps

_FOLDER = Path(__file__).parent
_NUMBERED = re.compile(r"'\$\[(\d+)\]'\) AS (\w+)")


def load(name: str) -> Callable[[Connection], TextClause]:
    """Load a statement; the result picks the dialect's variant."""
    variants = {file.name: text(file.read_text()) for file in _FOLDER.glob(f"{name}.*")}
    common = variants.get(f"{name}.sql")
    return lambda connection: variants[f"{name}.{connection.dialect.name}.sql"] if common is None else common


class RowWriter:
    """A SQLite statement that writes objects, passed as arrays.

    The statement numbers the attributes. SQLite parses arrays at half the cost of objects.
    """

    def __init__(self, name: str) -> None:
        source = (_FOLDER / f"{name}.sqlite.sql").read_text()
        numbered = {int(number): attribute for number, attribute in _NUMBERED.findall(source)}
        self._statement = text(source)
        self._values_of = attrgetter(*(numbered[number] for number in range(len(numbered))))

    def write(self, connection: Connection, objects: Sequence[Any]) -> int:
        """Write objects; return how many rows were written."""
        if not objects:
            return 0
        rows: CursorResult[Any] = connection.execute(
            self._statement, {"rows": dumps(list(map(self._values_of, objects)))}
        )
        return rows.rowcount
