"""Database migrations, safe to run from many processes at once."""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect

from app.db import cluster_state
from app.db.engine import Database

if TYPE_CHECKING:
    from types import ModuleType

# Next to the package, both in the repository and when installed.
MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


async def migrate(database: Database, revision: str = "head") -> None:
    """Migrate up to `revision`.

    Raises `ConfigurationError` if the database is newer. Runs in one transaction under a lock: the second of two
    processes finds nothing left to do. With millions of rows, both wait for minutes.
    """
    await database.migrate(lambda connection: _upgrade(connection, revision))


async def rewind(database: Database, revision: str = "base") -> None:
    """Revert migrations down to `revision`."""
    await database.migrate(lambda connection: _load_alembic().downgrade(connection, revision))


@cache
def head_revision() -> str:
    """Return this version's newest revision, that of the last file."""
    return max(path.name for path in MIGRATIONS.glob("versions/[0-9]*_*.py")).partition("_")[0]


def _upgrade(connection: Connection, revision: str) -> None:
    # Always read: the first statement takes SQLite's write lock, and Alembic's context is one per process.
    current = cluster_state.revision(connection) if inspect(connection).has_table("alembic_version") else None
    if revision != "head" or current != head_revision():
        _load_alembic().upgrade(connection, revision)


def _load_alembic() -> "ModuleType":
    """Import Alembic only when there is something to migrate."""
    return import_module("app.db.alembic_runner")
