"""Many rows in one statement: they travel as one JSON document, which the database takes apart or puts together.

The usual way, one statement run once for each set of parameters and one row fetched after the other, costs Python
more than it costs the database: each value is converted by itself and, on SQLite, each run and each row gives the
interpreter to another thread and has to win it back.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import starmap
from operator import attrgetter
from typing import Any, Generic, TypeVar

import msgspec
from sqlalchemy import (
    ARRAY,
    JSON,
    ClauseElement,
    ColumnElement,
    Dialect,
    FromClause,
    LargeBinary,
    Table,
    Text,
    any_,
    bindparam,
    case,
    cast,
    column,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy import insert as insert_into
from sqlalchemy import update as update_table
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.types import TypeEngine

from app.db.engine import Connection

S = TypeVar("S", bound=msgspec.Struct)
_Function = Callable[..., ColumnElement[Any]]
Paths = Mapping[str, tuple[str, ...]]
"""For columns that stand deeper in an object than under their own name: the names that lead there."""
_DOCUMENT = bindparam("document", type_=Text)
_POSTGRESQL, _SQLITE = asyncpg.dialect(), pysqlite.dialect()  # type: ignore[no-untyped-call]
_PARAMETER = "$1"


class BulkWrite:
    """A statement that writes many objects, in the form that each database takes best.

    PostgreSQL reads records from objects, SQLite parses short arrays fastest; neither is sent more than it writes.
    Statements are kept as the text that is sent: looking at a statement to find its text takes longer than sending it.
    """

    def __init__(
        self, fields: Sequence[str], *, postgresql: ClauseElement, sqlite: ClauseElement, has_bytes: bool = False
    ) -> None:
        self._fields = fields
        self._has_bytes = has_bytes
        self._values_of: Callable[[Any], tuple[Any, ...]] = attrgetter(*fields)
        self._record: Callable[..., msgspec.Struct] = msgspec.defstruct("Record", map(str, fields))
        self._postgresql = _text_of(postgresql, _POSTGRESQL)
        self._sqlite = _text_of(sqlite, _SQLITE)

    def execute(self, connection: Connection, objects: Sequence[Any]) -> int:
        """Write objects by their attributes; returns how many rows were written."""
        is_postgresql = connection.dialect.name == "postgresql"
        statement = self._postgresql if is_postgresql else self._sqlite
        document = self._document(objects, is_postgresql=is_postgresql)
        return int((connection.exec_driver_sql(statement, (document,))).rowcount)

    def _document(self, objects: Sequence[Any], *, is_postgresql: bool) -> str:
        rows: Sequence[Any] = list(map(self._values_of, objects))
        if self._has_bytes:
            rows = [[v.decode() if isinstance(v, bytes) else v for v in row] for row in rows]
        if is_postgresql:
            rows = list(starmap(self._record, rows))
        return msgspec.json.encode(rows).decode()

    @staticmethod
    def execute_all(connection: Connection, writes: Iterable[tuple["BulkWrite", Sequence[Any]]]) -> int:
        """Write objects of several kinds, in one trip where trips cost; returns how many rows were written.

        Kinds must not depend on each other but by foreign keys, which must point to earlier ones.
        """
        wanted = [(write, objects) for write, objects in writes if objects]
        if connection.dialect.name != "postgresql":
            return sum([write.execute(connection, objects) for write, objects in wanted])
        if not wanted:
            return 0
        statement = _in_one(tuple(write._postgresql for write, _ in wanted))  # noqa: SLF001 -- our own
        documents = tuple(write._document(objects, is_postgresql=True) for write, objects in wanted)  # noqa: SLF001
        return int((connection.exec_driver_sql(statement, documents)).scalar_one())


@lru_cache(maxsize=64)
def _in_one(statements: tuple[str, ...]) -> str:
    """Put statements of PostgreSQL with a parameter each into one, whose parameters are theirs in the same order.

    It reads how many rows they wrote.
    """
    numbered = [text.replace(_PARAMETER, f"${number}") for number, text in enumerate(statements, start=1)]
    parts = [f"part_{number} AS ({text} RETURNING 1)" for number, text in enumerate(numbered)]
    counts = [f"(SELECT count(*) FROM part_{number})" for number in range(len(parts))]  # noqa: S608 -- our own names
    return f"WITH {', '.join(parts)} SELECT {' + '.join(counts)}"


def insert(
    table: Table,
    columns: Sequence[str],
    *,
    paths: Paths | None = None,
    constants: Mapping[str, int] | None = None,
    postgresql_first: FromClause | None = None,
) -> BulkWrite:
    """Insert these columns of each object, bytes if they are text, and the same constants for all.

    `postgresql_first` is one row that PostgreSQL has to make before it makes the rows to insert.
    """
    same: dict[str, ColumnElement[Any]] = {
        name: literal_column(str(value)) for name, value in (constants or {}).items()
    }

    def build(rows: "_PostgresqlRows | _SqliteRows") -> ClauseElement:
        values = {name: rows.value(name) for name in columns} | same
        source = select(*values.values()).select_from(rows.source)
        if postgresql_first is not None and isinstance(rows, _PostgresqlRows):
            source = source.join_from(rows.source, postgresql_first, true())
        return insert_into(table).from_select(list(values), source)

    return _for_both(build, table, columns, paths)


def update(table: Table, columns: Sequence[str], *, version: str, paths: Paths | None = None) -> BulkWrite:
    """Set these columns of each object's row (by `id`), if its version is still the object's, and count that up."""

    def build(rows: "_PostgresqlRows | _SqliteRows") -> ClauseElement:
        values = {name: rows.value(name) for name in columns} | {version: table.c[version] + literal_column("1")}
        is_same = (table.c.id == rows.value("id")) & (table.c[version] == rows.value(version))
        return update_table(table).where(is_same).values(values)

    return _for_both(build, table, [*columns, "id", version], paths)


class BulkRead(Generic[S]):
    """A statement that reads the rows with given keys as structs, in no order."""

    def __init__(self, kind: type[S], *, postgresql: ClauseElement, sqlite: ClauseElement) -> None:
        self._decode = msgspec.json.Decoder(list[kind]).decode  # type: ignore[valid-type]
        self._postgresql = _text_of(postgresql, _POSTGRESQL)
        self._sqlite = _text_of(sqlite, _SQLITE)

    def execute(self, connection: Connection, keys: Sequence[str]) -> list[S]:
        """Read the rows with these keys."""
        if connection.dialect.name == "postgresql":
            document = (connection.exec_driver_sql(self._postgresql, (keys,))).scalar_one()
        else:
            given = msgspec.json.encode(keys).decode()
            document = (connection.exec_driver_sql(self._sqlite, (given,))).scalar_one()
        return self._decode(document) if document else []


def read(
    kind: type[S],
    table: Table,
    *,
    key: str,
    paths: Paths | None = None,
    without: Collection[str] = (),
    is_locking: bool = False,
) -> BulkRead[S]:
    """Read rows by this column, all columns but those `without` which the struct has its defaults.

    Locking is done, on PostgreSQL, in the keys' order, so that two who lock don't deadlock.
    """
    where = {column.name: (column.name,) for column in table.c if column.name not in without} | dict(paths or {})
    keys = bindparam("keys", type_=ARRAY(Text))
    rows = select(_object(table, where, func.json_build_object, lambda v: v).label("document")).where(
        table.c[key] == any_(keys)
    )
    if is_locking:
        rows = rows.order_by(table.c[key]).with_for_update()
    found = rows.subquery()
    given = select(func.json_each(_DOCUMENT).table_valued("value").c.value)
    document = _object(table, where, func.json_object, func.json)
    return BulkRead(
        kind,
        postgresql=select(cast(func.json_agg(found.c.document), Text)),
        sqlite=select(func.json_group_array(document)).where(table.c[key].in_(given)),
    )


def _object(table: Table, paths: Paths, make: _Function, as_json: _Function) -> ColumnElement[Any]:
    """Put the columns of a row together as a JSON object; what stands deeper is null if its first column is.

    `make` builds an object of names and values, `as_json` takes a value that is JSON already as such.
    """
    parts: dict[str, Any] = {}
    deeper: dict[str, list[tuple[str, ColumnElement[Any]]]] = {}
    for name, (top, *rest) in paths.items():
        value: ColumnElement[Any] = table.c[name]
        if rest:
            deeper.setdefault(top, []).append((rest[0], value))
        else:
            parts[top] = as_json(value) if isinstance(value.type, JSON) else value
    for top, values in deeper.items():
        parts[top] = as_json(case((values[0][1].is_not(None), make(*_flat(values)))))
    return make(*_flat(parts.items()))


def _flat(pairs: Iterable[tuple[str, ColumnElement[Any]]]) -> Iterator[ColumnElement[Any]]:
    for name, value in pairs:
        yield _quoted(name)
        yield value


def _quoted(name: str) -> ColumnElement[str]:
    """Write a name of ours into the statement itself, where it is parsed once."""
    return literal_column(f"'{name}'")


def _text_of(statement: ClauseElement, dialect: Dialect) -> str:
    return str(statement.compile(dialect=dialect))


def _for_both(build: Any, table: Table, columns: Sequence[str], paths: Paths | None) -> BulkWrite:
    types = {name: table.c[name].type for name in columns}
    where = {name: (name,) for name in columns} | {name: path for name, path in (paths or {}).items() if name in types}
    fields = list(dict.fromkeys(path[0] for path in where.values()))
    return BulkWrite(
        fields,
        postgresql=build(_PostgresqlRows(types, where)),
        sqlite=build(_SqliteRows(types, where, fields)),
        has_bytes=any(isinstance(kind, LargeBinary) for kind in types.values()),
    )


class _SqliteRows:
    """The document's rows in SQLite."""

    def __init__(self, types: Mapping[str, TypeEngine[Any]], paths: Paths, fields: Sequence[str]) -> None:
        self._types = types
        self._paths = paths
        self._fields = fields
        self._each = func.json_each(_DOCUMENT).table_valued("value", name="given")
        self.source: FromClause = self._each

    def value(self, name: str) -> ColumnElement[Any]:
        top, *deeper = self._paths[name]
        path = ".".join((f"$[{self._fields.index(top)}]", *deeper))
        value: ColumnElement[Any] = func.json_extract(self._each.c.value, _quoted(path))
        return cast(value, LargeBinary) if isinstance(self._types[name], LargeBinary) else value


class _PostgresqlRows:
    """The document's rows in PostgreSQL: as records, with what stands deeper taken out of its JSON."""

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
            return func.convert_to(value, _quoted("UTF8"))
        return func.json_extract_path_text(value, *map(_quoted, deeper)) if deeper else value


def _sent_as(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    return Text() if isinstance(kind, LargeBinary) else kind
