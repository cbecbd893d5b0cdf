"""Sessions of PostgreSQL: their settings, and what is checked when one begins."""

from typing import Any

from app.db.engine.server_clock import ServerClock
from app.errors import ConfigurationError

NAME = "nanobanana-gateway"
LISTENER_NAME = "nanobanana-gateway notifications"
_IDLE_IN_TRANSACTION = "idle_in_transaction_session_timeout"
_IDLE_LIMIT = "5s"
_SERVER_TIME = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now"
_BEGIN = f"{_SERVER_TIME}, current_setting('{_IDLE_IN_TRANSACTION}') AS idle_limit"


def session_settings(name: str, *, statement_seconds: float | None) -> dict[str, str]:
    """Return the settings of a session, whatever the defaults of server, database and role are.

    They are sent when connecting. Only `search_path` is left to the operator, who may keep our tables in any schema.
    """
    statement_ms = 0 if statement_seconds is None else round(statement_seconds * 1000)
    return {
        "application_name": name,
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "off",
        "default_transaction_deferrable": "off",
        # What was acknowledged is on disk.
        "synchronous_commit": "on",
        "TimeZone": "UTC",
        "statement_timeout": str(statement_ms),
        "lock_timeout": "0",
        "idle_session_timeout": "0",
        # A replica that freezes or vanishes between a statement and the commit holds locks that all others need.
        _IDLE_IN_TRANSACTION: _IDLE_LIMIT,
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
        "tcp_user_timeout": "25000",
    }


async def begin_session(driver: Any, clock: ServerClock) -> None:
    """Check a new session and read the server's clock; raises `ConfigurationError` if the settings were dropped."""
    asked_at = clock.monotonic()
    row = await driver.fetchrow(_BEGIN)
    if row["idle_limit"] != _IDLE_LIMIT:
        raise pooler_found()
    clock.set(row["now"], asked_at=asked_at)


async def read_clock(driver: Any, clock: ServerClock) -> None:
    """Read the server's clock, in one round trip, which also tests the connection."""
    asked_at = clock.monotonic()
    clock.set(await driver.fetchval(_SERVER_TIME), asked_at=asked_at)


def pooler_found() -> ConfigurationError:
    """Return the error for a connection pooler, such as PgBouncer, which rejects or drops the settings of a session."""
    return ConfigurationError(
        "DATABASE_URL",
        "names a connection pooler, which doesn't keep the settings of a session",
        "name the PostgreSQL server itself; a replica opens at most 8 connections",
    )
