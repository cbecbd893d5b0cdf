"""PostgreSQL sessions: settings, the server's clock, and poolers."""

from collections.abc import Mapping
from typing import Any

from app.db.engine.server_clock import ServerClock
from app.errors import ConfigurationError

_SETTINGS = {
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    # Acknowledged commits are on disk.
    "synchronous_commit": "on",
    "TimeZone": "UTC",
    "lock_timeout": "0",
    "idle_session_timeout": "0",
    "tcp_keepalives_idle": "10s",
    "tcp_keepalives_interval": "5s",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "25s",
}
# A replica that freezes or vanishes between a statement and the commit holds locks that all others need.
_IDLE_SECONDS = 5
# A migration does more between two statements, and only other starts wait for it.
_IDLE_MIGRATION_SECONDS = 60
_SERVER_TIME = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_BEGIN = f"{_SERVER_TIME} AS now, count(set_config(name, value, false)) FROM unnest($1::text[], $2::text[]) AS s (name, value)"
_PROCESS = "SELECT pg_backend_pid()"
_ROUNDS = 10
# A statement that was prepared in one session is unknown, or exists already, in the next.
_PREPARED_ELSEWHERE = {"26000", "42P05"}


def session_settings(*, statement_seconds: float | None) -> dict[str, str]:
    """Return settings that override those of server and role.

    Migrations have no statement limit. Only `search_path` is left to the operator, who may keep our tables in any
    schema.
    """
    statement_ms = 0 if statement_seconds is None else round(statement_seconds * 1000)
    idle_seconds = _IDLE_SECONDS if statement_seconds is not None else _IDLE_MIGRATION_SECONDS
    return {
        **_SETTINGS,
        "statement_timeout": f"{statement_ms}ms",
        "idle_in_transaction_session_timeout": f"{idle_seconds}s",
    }


async def begin_session(driver: Any, settings: Mapping[str, str], clock: ServerClock) -> None:
    """Set a new session's settings and read the server's clock."""
    asked_at = clock.monotonic()
    clock.set(await driver.fetchval(_BEGIN, list(settings), list(settings.values())), asked_at=asked_at)


async def read_clock(driver: Any, clock: ServerClock) -> None:
    """Read the server's clock in one round trip."""
    asked_at = clock.monotonic()
    clock.set(await driver.fetchval(_SERVER_TIME), asked_at=asked_at)


async def is_direct(driver: Any) -> bool:
    """Whether no pooler is in between: poolers invent process ids."""
    return bool(driver.get_server_pid() == await driver.fetchval(_PROCESS))


async def keep_sessions(one: Any, other: Any) -> bool:
    """Whether two connections through a pooler have a session each.

    In transaction mode, such as PgBouncer's, each transaction may run in another session: settings and prepared
    statements get lost or belong to others.
    """
    pairs = {(await one.fetchval(_PROCESS), await other.fetchval(_PROCESS)) for _ in range(_ROUNDS)}
    return len(pairs) == 1 and all(process != another for process, another in pairs)


def is_prepared_elsewhere(state: str) -> bool:
    """Whether a SQLSTATE shows that prepared statements got mixed up."""
    return state in _PREPARED_ELSEWHERE


def pooler_found() -> ConfigurationError:
    """Return the error for a connection pooler in transaction mode."""
    return ConfigurationError(
        "DATABASE_URL",
        "names a connection pooler in transaction mode, which doesn't keep sessions",
        "name the PostgreSQL server itself, or a pooler in session mode",
    )
