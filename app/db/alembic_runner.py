"""Runs Alembic on our connection.

Imported only when there is something to migrate.
"""

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, text

from app.db.migrate import MIGRATIONS
from app.errors import ConfigurationError

_MIGRATION_LOCK = 0x6D696772


def upgrade(connection: Connection, revision: str) -> None:
    """Migrate up to `revision`.

    Raises `ConfigurationError` if the database is newer.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    try:
        command.upgrade(_config(connection), revision)
    except CommandError as error:
        raise ConfigurationError(
            "DATABASE_URL", f"names a database that this version can't migrate ({error})", "run the newer version"
        ) from error


def downgrade(connection: Connection, revision: str) -> None:
    """Revert migrations down to `revision`."""
    command.downgrade(_config(connection), revision)


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
