"""What must be in place before anything runs: the data directory and a migrated database."""

import asyncio
import tempfile
import time
from urllib.parse import urlsplit

import asyncpg
import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.db.engine import Database
from app.db.migrate import migrate
from app.errors import ConfigurationError, ServiceUnavailable
from app.settings import Settings, database_url

_SERVER_PATIENCE_SECONDS = 30
_FILE_PATIENCE_SECONDS = 5
_log = structlog.get_logger(__name__)


async def prepare_database(settings: Settings) -> Database:
    """Connect and migrate, waiting a while for a database that is not up yet; the caller closes it."""
    if settings.database_url is None:
        prepare_data_dir(settings)
    try:
        database = Database(database_url(settings))
    except OSError as error:
        raise ConfigurationError(
            "DATABASE_URL", f"names a file that can't be made ({error.strerror})", "choose a directory to write to"
        ) from None
    # A server may come up after us. A file is at most locked, by others that start at the same time.
    deadline = time.monotonic() + (_SERVER_PATIENCE_SECONDS if database.is_postgresql else _FILE_PATIENCE_SECONDS)
    while True:
        try:
            await migrate(database)
        except ServiceUnavailable as error:
            if time.monotonic() > deadline:
                await database.aclose()
                cause = type(error.__cause__).__name__
                raise ConfigurationError(
                    "DATABASE_URL",
                    f"names a database that can't be reached ({cause})",
                    "check it, and that its server runs",
                ) from error
            _log.warning("waiting_for_database", address=_address(settings), cause=repr(error.__cause__))
            await asyncio.sleep(1)
        except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            await database.aclose()
            raise ConfigurationError(
                "DATABASE_URL",
                f"names a database that can't be used ({_reason(error)})",
                "check its name, user, password and rights, or that it is a database",
            ) from error
        except BaseException:
            await database.aclose()
            raise
        else:
            return database


def _reason(error: Exception) -> str:
    """Say in a line why a database can't be used; its server's words are safe to show, a driver's may hold the URL."""
    origin = getattr(error, "orig", None) or error
    if getattr(origin, "sqlstate", None):
        return str(origin).partition("\n")[0].removeprefix(f"{type(origin)}: ")
    return type(origin).__name__


def _address(settings: Settings) -> str:
    parts = urlsplit(settings.database_url or "")
    return f"{parts.hostname or 'a local socket'}{f':{parts.port}' if parts.port else ''}"


def prepare_data_dir(settings: Settings) -> None:
    """Make `DATA_DIR`, for our eyes only, and see that files can be made in it; raises `ConfigurationError`."""
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.data_dir):
            pass
    except OSError as error:
        raise ConfigurationError(
            "DATA_DIR", f"can't be used ({error.strerror}): {settings.data_dir}", "name a directory to write to"
        ) from None
