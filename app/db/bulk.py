"""Many rows in one statement: they travel as one JSON document, which the database takes apart.

The usual way, one statement run once for each set of parameters, costs Python more than it costs the database: each
set is bound by itself and, on SQLite, each run gives the interpreter to another thread and has to win it back.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    JSON,
    ColumnElement,
    Executable,
    FromClause,
    LargeBinary,
    Table,
    Text,
    bindparam,
    cast,
    column,
    func,
    select,
)
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_table
from sqlalchemy.types import TypeEngine

from app.db.engine import Connection

Paths = Mapping[str, tuple[str, ...]]
"""For columns that stand deeper in an object than under their own name: the names that lead there."""
_DOCUMENT = bindparam("document", type_=Text)


class Bulk:
    """A statement that writes many objects, in the form that each database takes."""

    def __init__(self, *, postgresql: Executable, sqlite: Executable) -> None:
        self._postgresql = postgresql
        self._sqlite = sqlite

    async def execute(self, connection: Connection, objects: Sequence[Any]) -> int:
        """Write objects, structs or mappings; returns how many rows were written."""
        statement = self._postgresql if connection.dialect.name == "postgresql" else self._sqlite
        document = msgspec.json.encode(objects).decode()
        return int((await connection.execute(statement, {"document": document})).rowcount)


def insert(table: Table, columns: Sequence[str], paths: Paths | None = None) -> Bulk:
    """Insert these columns of each object; binary ones come as text."""

    def build(rows: "_PostgresqlRows | _SqliteRows") -> Executable:
        values = [rows.value(name) for name in columns]
        return insert_into(table).from_select(columns, select(*values).select_from(rows.source))

    return _for_both(build, table, columns, paths)


def update(table: Table, columns: Sequence[str], *, version: str, paths: Paths | None = None) -> Bulk:
    """Set these columns of each object's row (by `id`), if its version is still the object's, and count that up."""

    def build(rows: "_PostgresqlRows | _SqliteRows") -> Executable:
        values = {name: rows.value(name) for name in columns} | {version: table.c[version] + 1}
        is_same = (table.c.id == rows.value("id")) & (table.c[version] == rows.value(version))
        return update_table(table).where(is_same).values(values)

    return _for_both(build, table, [*columns, "id", version], paths)


def _for_both(build: Any, table: Table, columns: Sequence[str], paths: Paths | None) -> Bulk:
    types = {name: table.c[name].type for name in columns}
    where = {name: (name,) for name in columns} | dict(paths or {})
    return Bulk(postgresql=build(_PostgresqlRows(types, where)), sqlite=build(_SqliteRows(types, where)))


class _SqliteRows:
    """The document's objects in SQLite."""

    def __init__(self, types: Mapping[str, TypeEngine[Any]], paths: Paths) -> None:
        self._types = types
        self._paths = paths
        self._each = func.json_each(_DOCUMENT).table_valued("value", name="given")
        self.source: FromClause = self._each

    def value(self, name: str) -> ColumnElement[Any]:
        value: ColumnElement[Any] = func.json_extract(self._each.c.value, "$." + ".".join(self._paths[name]))
        return cast(value, LargeBinary) if isinstance(self._types[name], LargeBinary) else value


class _PostgresqlRows:
    """The document's objects in PostgreSQL: as records, with what stands deeper taken out of its JSON."""

    def __init__(self, types: Mapping[str, TypeEngine[Any]], paths: Paths) -> None:
        self._types = types
        self._paths = paths
        tops = {path[0]: JSON() if path[1:] else _sent_as(types[name]) for name, path in paths.items()}
        records = func.json_to_recordset(cast(_DOCUMENT, JSON))
        self.source: FromClause = records.table_valued(
            *(column(top, kind) for top, kind in tops.items()), name="given"
        ).render_derived(with_types=True)

    def value(self, name: str) -> ColumnElement[Any]:
        top, *deeper = self._paths[name]
        value: ColumnElement[Any] = self.source.c[top]
        if isinstance(self._types[name], LargeBinary):
            return func.convert_to(value, "UTF8")
        return func.json_extract_path_text(value, *deeper) if deeper else value


def _sent_as(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    return Text() if isinstance(kind, LargeBinary) else kind
