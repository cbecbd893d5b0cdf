"""The database, on SQLite or PostgreSQL."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from app.clock import Clock
from app.db.engine.errors import unreachable_as_503
from app.db.engine.sqlite import SqliteEngine
from app.db.engine.transaction import T, Work

if TYPE_CHECKING:
    from app.db.engine.postgresql import PostgresqlEngine


class Database:
    """Runs work in transactions.

    All methods raise `ServiceUnavailable` if the database can't be reached; other database errors pass unchanged.
    On PostgreSQL, transactions time out after `transaction_seconds`, and connections idle for `ping_after_seconds` are
    tested before use. By default, requests fail within ten seconds and outlast a lock that a frozen replica holds.
    """

    def __init__(self, url: str, *, transaction_seconds: float = 6.5, ping_after_seconds: float = 1.0) -> None:
        self.is_postgresql = url.startswith("postgres")
        self._engine: SqliteEngine | PostgresqlEngine = (
            _load_postgresql()(url, transaction_seconds=transaction_seconds, ping_after_seconds=ping_after_seconds)
            if self.is_postgresql
            else SqliteEngine(url)
        )

    @property
    def clock(self) -> Clock:
        """The clock shared by all processes that use this database."""
        return self._engine.clock

    @property
    def clock_skew_ms(self) -> int:
        """How far this machine's clock is ahead of the database's."""
        return self._engine.clock_skew_ms

    async def check_pooler(self) -> None:
        """Raise `ConfigurationError` behind a connection pooler that doesn't keep sessions."""
        with unreachable_as_503():
            await self._engine.check_pooler()

    async def read(self, work: Work[T]) -> T:
        """Run work that only reads, on one consistent state."""
        with unreachable_as_503():
            return await self._engine.read(work)

    async def write(self, work: Work[T]) -> T:
        """Run work and commit it; roll back on an exception."""
        with unreachable_as_503():
            return await self._engine.write(work)

    async def migrate(self, work: Work[T]) -> T:
        """Like `write`, but for statements that take minutes."""
        with unreachable_as_503():
            return await self._engine.migrate(work)

    async def listen(self, channel: str, on_notification: Callable[[], None]) -> None:
        """Call back now and on each notification, until disconnected."""
        with unreachable_as_503():
            await self._engine.listen(channel, on_notification)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._engine.aclose()


def _load_postgresql() -> Any:
    """Import PostgreSQL's engine, and SQLAlchemy's ORM, only if used."""
    return import_module("app.db.engine.postgresql").PostgresqlEngine
