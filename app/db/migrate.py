"""Bringing the database up to date; safe when many processes do it at once."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from app.db.engine import Database
from app.errors import ConfigurationError

# Beside the package, in the repository as in an installation.
_MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
_MIGRATION_LOCK = 0x6D696772


async def migrate(database: Database, revision: str = "head") -> None:
    """Run the migrations up to `revision`; raises `ConfigurationError` for a database of a newer version.

    All happens in one transaction under a lock, so that whoever comes second finds nothing left to do. With millions of
    rows it takes minutes, which both have.
    """
    await database.migrate(lambda connection: _upgrade(connection, revision))


async def rewind(database: Database, revision: str = "base") -> None:
    """Take migrations back down to `revision`."""
    await database.migrate(lambda connection: command.downgrade(_config(connection), revision))


def head_revision() -> str:
    """Return the newest revision that this version of the service knows."""
    return str(ScriptDirectory.from_config(_config()).get_current_head())


def _upgrade(connection: Connection, revision: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    try:
        command.upgrade(_config(connection), revision)
    except CommandError as error:
        raise ConfigurationError(
            "DATABASE_URL", f"names a database that this version can't migrate ({error})", "run the newer version"
        ) from error


def _config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
