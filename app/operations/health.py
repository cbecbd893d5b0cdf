"""Readiness of this process."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.clock import Clock, isoformat
from app.db import account_store, cluster_state
from app.db.engine import Connection, Database
from app.db.migrate import head_revision
from app.domain.account import Account, AccountState
from app.domain.waiting import account_wait
from app.errors import ServiceUnavailable
from app.shapes.health import Readiness, UpstreamReadiness
from app.writing.writer import Writer

_CHECK_SECONDS = 3
_log = structlog.get_logger(__name__)


@dataclass(kw_only=True)
class HealthCheck:
    """Checks the database, the loops, image storage and the account."""

    database: Database
    writer: Writer
    clock: Clock
    is_sandbox: bool
    is_storage_reachable: Callable[[], bool]
    stuck_loops: Callable[[], list[str]]
    revision: str | None = field(default_factory=head_revision)

    async def check(self) -> Readiness:
        """Check now, without raising, within a few seconds."""
        upstream = UpstreamReadiness("sandbox" if self.is_sandbox else "live")
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                revision, account = await self.database.read(_revision_and_account)
                is_writable = await self.writer.can_write()
            database = "ok" if is_writable else "unwritable"
            if revision != self.revision:
                database = f"at revision {revision}, not {self.revision}"
            self._describe(account, upstream)
        except (ServiceUnavailable, TimeoutError):
            database = "unreachable"
        except SQLAlchemyError as error:
            _log.warning("database_unusable", error=repr(error))
            database = "unusable"
        stuck = self.stuck_loops()
        is_reachable = self.is_storage_reachable()
        status: Literal["ready", "degraded", "unavailable"] = "ready"
        if database != "ok" or stuck:
            status = "unavailable"
        elif upstream.state is not AccountState.OK or not is_reachable:
            # Other replicas are affected as well, and tasks are still accepted.
            status = "degraded"
        loops = f"stuck: {', '.join(stuck)}" if stuck else "ok"
        return Readiness(status, database, loops, "ok" if is_reachable else "unreachable", upstream)

    def _describe(self, account: Account, upstream: UpstreamReadiness) -> None:
        if wait := account_wait(account, self.clock.now()):
            upstream.state, upstream.reason = account.state, wait.reason
            upstream.until = None if wait.until is None else isoformat(wait.until)


def _revision_and_account(connection: Connection) -> tuple[str | None, Account]:
    return cluster_state.revision(connection), account_store.get(connection)
