"""Whether this process can do its work."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import structlog
from sqlalchemy.exc import SQLAlchemyError

from app.db import account_store, cluster_state
from app.db.engine import Connection, Database
from app.db.migrate import head_revision
from app.domain.account import Account, AccountState
from app.errors import ServiceUnavailable
from app.writing.writer import Writer

_CHECK_SECONDS = 3
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Health:
    """The parts of readiness, each "ok" or a word that says what is wrong."""

    database: str
    loops: str
    storage: Literal["ok", "unreachable"]
    upstream_mode: Literal["live", "sandbox"]
    upstream_state: str
    upstream_reason: str | None

    @property
    def is_able(self) -> bool:
        """Whether this replica can do its work; a held account is not its fault, and tasks go on without a store."""
        return self.database == "ok" and self.loops == "ok"

    @property
    def status(self) -> Literal["ready", "degraded", "unavailable"]:
        """The summary: ready, degraded or unavailable."""
        if not self.is_able:
            return "unavailable"
        return "ready" if self.upstream_state == "ok" and self.storage == "ok" else "degraded"


class HealthCheck:
    """Looks at the database, the loops and the account. `stuck_loops` names the loops that don't move."""

    def __init__(
        self,
        *,
        database: Database,
        writer: Writer,
        is_sandbox: bool,
        is_storage_reachable: Callable[[], bool],
        stuck_loops: Callable[[], list[str]],
    ) -> None:
        self._database = database
        self._writer = writer
        self._is_storage_reachable = is_storage_reachable
        self._is_sandbox = is_sandbox
        self._stuck_loops = stuck_loops
        self._revision = head_revision()

    async def check(self) -> Health:
        """Look now; never raises and takes at most a few seconds."""
        state, reason = "ok", None
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                revision, account = await self._database.read(_revision_and_account)
                is_writable = await self._writer.is_able()
            database = "ok" if is_writable else "unwritable"
            if revision != self._revision:
                database = f"at revision {revision}, not {self._revision}"
            if account.state is AccountState.HELD:
                state, reason = "held", account.error.code.value if account.error else None
        except (ServiceUnavailable, TimeoutError):
            database = "unreachable"
        except SQLAlchemyError as error:
            _log.warning("database_unusable", error=repr(error))
            database = "unusable"
        stuck = self._stuck_loops()
        return Health(
            database=database,
            loops=f"stuck: {', '.join(stuck)}" if stuck else "ok",
            storage="ok" if self._is_storage_reachable() else "unreachable",
            upstream_mode="sandbox" if self._is_sandbox else "live",
            upstream_state=state,
            upstream_reason=reason,
        )


def _revision_and_account(connection: Connection) -> tuple[str | None, Account]:
    return cluster_state.revision(connection), account_store.get(connection)
