"""Database migrations, safe to run from many processes at once."""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect

from app.db import cluster_state
from app.db.engine import Database
from app.errors import ConfigurationError

if TYPE_CHECKING:
    from types import ModuleType

# Next to the package, both in the repository and when installed.
MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
OLDEST_COMPATIBLE = "0006"
"""The oldest code, by its newest revision, that works on the database of this one. Raise it when a migration removes or
renames what older code uses."""


async def migrate(database: Database, revision: str = "head") -> None:
    """Migrate up to `revision`.

    Raises `ConfigurationError` if the database is newer and incompatible. Runs in one transaction under a lock, so
    if two processes start it, the second finds nothing left to do. With millions of rows, it takes minutes in both.
    """
    await database.migrate(lambda connection: _upgrade(connection, revision))


async def check_revision(database: Database) -> None:
    """Raise `ConfigurationError` for an incompatible database of a newer version."""

    def check(connection: Connection) -> None:
        current = _current(connection)
        if current is not None and current > head_revision() and revision_problem(connection):
            raise ConfigurationError(
                "DATABASE_URL",
                f"names a database at revision {current}, and this version only knows {head_revision()}",
                "run the newer version",
            )

    await database.read(check)


async def rewind(database: Database, revision: str = "base") -> None:
    """Revert migrations down to `revision`."""
    await database.migrate(lambda connection: _load_alembic().downgrade(connection, revision))


@cache
def head_revision() -> str:
    """Return this version's newest revision, that of the last file."""
    return max(path.name for path in MIGRATIONS.glob("versions/[0-9]*_*.py")).partition("_")[0]


def _upgrade(connection: Connection, revision: str) -> None:
    # Always read: the first statement takes SQLite's write lock, and Alembic's context is one per process.
    current = _current(connection)
    is_newer = current is not None and current > head_revision() and revision_problem(connection) is None
    if revision != "head" or (current != head_revision() and not is_newer):
        _load_alembic().upgrade(connection, revision)
    if revision == "head" and not is_newer:
        cluster_state.put(connection, _compatible_with(head_revision()), OLDEST_COMPATIBLE)


def revision_problem(connection: Connection) -> str | None:
    """Explain why this version can't use the database, if so.

    It can use its own revision, and a newer one whose migration says so. So replicas of the old version go on, and can
    be restarted, while an upgrade replaces them.
    """
    revision, ours = cluster_state.revision(connection), head_revision()
    if revision == ours:
        return None
    oldest = cluster_state.get(connection, _compatible_with(revision)) if revision else None
    return None if oldest is not None and oldest <= ours else f"at revision {revision}, not {ours}"


def _compatible_with(revision: str) -> str:
    return f"oldest_compatible:{revision}"


def _current(connection: Connection) -> str | None:
    return cluster_state.revision(connection) if inspect(connection).has_table("alembic_version") else None


def _load_alembic() -> "ModuleType":
    """Import Alembic only when there is something to migrate."""
    return import_module("app.db.alembic_runner")
