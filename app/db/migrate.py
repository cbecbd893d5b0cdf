"""Bringing the database up to date; safe when many processes do it at once."""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from app.db.engine import Database

if TYPE_CHECKING:
    from types import ModuleType

# Beside the package, in the repository as in an installation.
MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


async def migrate(database: Database, revision: str = "head") -> None:
    """Run the migrations up to `revision`; raises `ConfigurationError` for a database of a newer version.

    All happens in one transaction under a lock, so that the second of two processes finds nothing left to do. With
    millions of rows both wait for minutes.
    """
    await database.migrate(lambda connection: _upgrade(connection, revision))


async def rewind(database: Database, revision: str = "base") -> None:
    """Take migrations back down to `revision`."""
    await database.migrate(lambda connection: _load_alembic().downgrade(connection, revision))


@cache
def head_revision() -> str:
    """Return the newest revision that this version of the service knows: that of the last file."""
    return max(path.name for path in MIGRATIONS.glob("versions/[0-9]*_*.py")).partition("_")[0]


def _upgrade(connection: Connection, revision: str) -> None:
    # Read in any case: the first statement takes SQLite's write lock, and Alembic's context is one per process.
    current = _revision_of(connection)
    if revision != "head" or current != head_revision():
        _load_alembic().upgrade(connection, revision)


def _revision_of(connection: Connection) -> str | None:
    """Read the revision of a database, None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    return str(found[0]) if len(found) == 1 else None


def _load_alembic() -> "ModuleType":
    """Import Alembic, which only a database with something to migrate needs."""
    return import_module("app.db.alembic_runner")
