"""Readiness of this process."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.clock import Clock, isoformat
from app.db import account_store
from app.db.engine import Database
from app.db.engine.server_clock import MAX_SKEW_MS
from app.db.migrate import revision_problem
from app.domain.account import Account, AccountState
from app.domain.waiting import account_wait
from app.errors import ServiceUnavailable
from app.shapes.health import Readiness, StorageState, UpstreamReadiness
from app.writing.writer import Writer

_READ_SECONDS = 2
_WRITE_SECONDS = 2
_log = structlog.get_logger(__name__)


@dataclass(kw_only=True)
class HealthCheck:
    """Checks the database, the loops, image storage and the account."""

    database: Database
    writer: Writer
    clock: Clock
    is_sandbox: bool
    storage_state: Callable[[], StorageState]
    stuck_loops: Callable[[], list[str]]

    async def check(self) -> Readiness:
        """Check within a few seconds, without raising."""
        upstream = UpstreamReadiness("sandbox" if self.is_sandbox else "live")
        try:
            async with asyncio.timeout(_READ_SECONDS):
                problem, account = await self.database.read(
                    lambda connection: (revision_problem(connection), account_store.get(connection))
                )
            is_writable = await self.writer.can_write(within_seconds=_WRITE_SECONDS)
            database = problem or ("ok" if is_writable else "unwritable")
            self._describe(account, upstream)
        except (ServiceUnavailable, TimeoutError):
            database = "unreachable"
        except SQLAlchemyError as error:
            _log.warning("database_unusable", error=repr(error))
            database = "unusable"
        stuck = self.stuck_loops()
        storage, clock = self.storage_state(), self._clock()
        status: Literal["ready", "degraded", "unavailable"] = "ready"
        if database != "ok" or stuck:
            status = "unavailable"
        elif upstream.state is not AccountState.OK or storage != "ok" or clock != "ok":
            # Other replicas are affected as well, and tasks are still accepted.
            status = "degraded"
        loops = f"stuck: {', '.join(stuck)}" if stuck else "ok"
        return Readiness(status, database, loops, storage, upstream, clock)

    def _describe(self, account: Account, upstream: UpstreamReadiness) -> None:
        if wait := account_wait(account, self.clock.now()):
            upstream.state, upstream.reason = account.state, wait.reason
            upstream.until = None if wait.until is None else isoformat(wait.until)

    def _clock(self) -> str:
        """Compare this machine's clock with the database's."""
        skew = self.database.clock_skew_ms
        if abs(skew) <= MAX_SKEW_MS:
            return "ok"
        return f"{abs(skew) // 1000} s {'ahead of' if skew > 0 else 'behind'} the database's"
