"""Prepares the data directory and the database for a start."""

import asyncio
import os
import ssl
import tempfile
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlsplit

import asyncpg
import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.clock import Clock
from app.db.engine import Database, may_recover
from app.db.migrate import check_revision, migrate
from app.errors import ConfigurationError, ServiceUnavailable
from app.logging import configure_logs
from app.settings import Settings, database_url, load_settings

_SERVER_TIMEOUT_SECONDS = 30
_FILE_TIMEOUT_SECONDS = 5
T = TypeVar("T")
_log = structlog.get_logger(__name__)


async def connect_database(settings: Settings) -> Database:
    """Connect and check the database's revision. Callers close it.

    Waits for a server that is starting; raises `ConfigurationError`.
    """
    if settings.database_url is None:
        prepare_data_dir(settings)
    try:
        database = Database(database_url(settings))
    except OSError as error:
        raise ConfigurationError(
            "DATABASE_URL", f"names a file that can't be created ({error.strerror})", "choose a writable directory"
        ) from None
    await _retry(settings, database, _check)
    return database


async def _check(database: Database) -> None:
    await database.check_pooler()
    await check_revision(database)


async def prepare_database(settings: Settings) -> Database:
    """Connect to the database and migrate it. Callers close it."""
    database = await connect_database(settings)
    await migrate_database(settings, database)
    return database


async def migrate_database(settings: Settings, database: Database) -> None:
    """Migrate the database, which is closed on errors."""
    await _retry(settings, database, migrate)


async def _retry(settings: Settings, database: Database, work: Callable[[Database], Awaitable[None]]) -> None:
    """Do `work` once the database can be reached.

    Closes the database on errors; raises `ConfigurationError` if it can't be used.
    """
    # A server may still be starting. A file can only be locked by processes that start at the same time.
    deadline = time.monotonic() + (_SERVER_TIMEOUT_SECONDS if database.is_postgresql else _FILE_TIMEOUT_SECONDS)
    while True:
        try:
            await work(database)
        except ServiceUnavailable as error:
            if time.monotonic() > deadline or not may_recover(error.__cause__):
                await database.aclose()
                raise ConfigurationError(
                    "DATABASE_URL",
                    f"names a database that can't be reached ({_cause(error.__cause__)})",
                    "check the URL and that the server is running",
                ) from error
            _log.warning("waiting_for_database", address=_address(settings), reason=_cause(error.__cause__))
            await asyncio.sleep(1)
        except (SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            await database.aclose()
            raise ConfigurationError(
                "DATABASE_URL",
                f"names a database that can't be used ({_reason(error)})",
                "check its name, user, password and permissions, or that the file is a database",
            ) from error
        except BaseException:
            await database.aclose()
            raise
        else:
            return


def run_with_database(work: Callable[[Database, Clock], Awaitable[T]]) -> T:
    """Migrate the database, then run `work` with it."""
    settings = load_settings()
    prepare_data_dir(settings)
    configure_logs(settings.log_format, settings.log_level, [])

    async def prepared() -> T:
        database = await prepare_database(settings)
        try:
            return await work(database, database.clock)
        finally:
            await database.aclose()

    return asyncio.run(prepared())


def _reason(error: Exception) -> str:
    """Summarize an error in one line.

    A server's message is safe to show, but a driver's may contain the URL.
    """
    origin = getattr(error, "orig", None) or error
    if getattr(origin, "sqlstate", None):
        return str(origin).partition("\n")[0].removeprefix(f"{type(origin)}: ")
    return type(origin).__name__


def _cause(error: BaseException | None) -> str:
    """Return why a connection failed, in one line.

    Messages of the system and the driver contain addresses, but no passwords.
    """
    origin = getattr(error, "orig", None) or error
    if isinstance(origin, TimeoutError):
        return "no reply in time"
    if isinstance(origin, OSError) and not isinstance(origin, ssl.SSLError) and origin.errno and origin.errno > 0:
        return os.strerror(origin.errno)
    return (getattr(origin, "strerror", None) or str(origin) or type(origin).__name__).partition("\n")[0]


def _address(settings: Settings) -> str:
    """Return the hosts in the URL, without user and password."""
    return urlsplit(settings.database_url or "").netloc.rpartition("@")[2] or "a local socket"


def prepare_data_dir(settings: Settings) -> None:
    """Create `DATA_DIR` with access for this user only.

    Raises `ConfigurationError` if it is not writable.
    """
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=settings.data_dir):
            pass
    except FileExistsError:
        raise ConfigurationError(
            "DATA_DIR", f"is not a directory: {settings.data_dir}", "choose a writable directory"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            "DATA_DIR", f"can't be used ({error.strerror}): {settings.data_dir}", "choose a writable directory"
        ) from None
