"""Inserts that know what to do on a conflict, in each database's dialect."""

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite

from app.db.engine import Connection


def insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """Return an `INSERT` with `on_conflict_do_nothing` and `on_conflict_do_update`."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
