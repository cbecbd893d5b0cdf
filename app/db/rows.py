"""Helpers that the stores share."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from sqlalchemy import BigInteger, BindParameter, Executable, Integer, Row, Table, bindparam
from sqlalchemy.dialects import postgresql, sqlite

from app.db.engine import Connection

T = TypeVar("T")
NOW = bindparam("now", type_=BigInteger)
LIMIT = bindparam("limit", type_=Integer)
IDS: BindParameter[Any] = bindparam("ids", expanding=True)


def as_struct(row: Row[Any], kind: type[T]) -> T:
    """Convert a row, dropping columns that `kind` lacks."""
    return msgspec.convert(row, kind, from_attributes=True)


def read_one(
    connection: Connection, kind: type[T], statement: Executable, values: Mapping[str, Any] | None = None
) -> T | None:
    """Read the only row, or None without one."""
    row = connection.execute(statement, values).one_or_none()
    return None if row is None else as_struct(row, kind)


def read_all(
    connection: Connection, kind: type[T], statement: Executable, values: Mapping[str, Any] | None = None
) -> list[T]:
    """Read all rows."""
    return [as_struct(row, kind) for row in connection.execute(statement, values)]


def insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an `INSERT` with `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
