"""Tells an unreachable database from other database errors."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from app.errors import ServiceUnavailable

# Classes of SQLSTATE: connection lost, out of resources, shutting down or starting up, system error; a server that
# became a standby; a session that ended because this process froze in a transaction (PostgreSQL's documentation,
# appendix A).
_UNREACHABLE_STATES = ("08", "53", "57", "58", "25006", "25P03")
# InternalClientError: the server has ended the session, but the connection isn't closed yet.
_DRIVER_ERRORS = (asyncpg.InterfaceError, asyncpg.InternalClientError)


def is_unreachable(error: BaseException) -> bool:
    """Whether an error means that the database is unreachable."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    # SQLite raises OperationalError for a locked database, a full disk and I/O errors.
    if isinstance(error, (PoolTimeout, InterfaceError, OperationalError, OSError, *_DRIVER_ERRORS)):
        return True
    return sqlstate(error).startswith(_UNREACHABLE_STATES)


def sqlstate(error: BaseException) -> str:
    """Return PostgreSQL's code of an error; empty for other errors."""
    # SQLAlchemy doesn't wrap all errors while it connects.
    origin = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(origin, "sqlstate", None)
    return state if isinstance(state, str) else ""


def may_recover(error: BaseException | None) -> bool:
    """Whether an error may pass without a configuration change."""
    # The driver has no exception class for a server without TLS.
    is_refusal = isinstance(error, ConnectionError) and "rejected SSL upgrade" in str(error)
    return not is_refusal and not isinstance(error, (ssl.SSLError, asyncpg.ClientConfigurationError))


@contextmanager
def unreachable_as_503() -> Iterator[None]:
    """Raise `ServiceUnavailable` if the database is unreachable."""
    try:
        yield
    except (SQLAlchemyError, OSError, asyncpg.PostgresError, *_DRIVER_ERRORS) as error:
        if is_unreachable(error):
            raise ServiceUnavailable("The database can't be reached right now.") from error
        raise
