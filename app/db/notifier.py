"""Notifications of commits through PostgreSQL's LISTEN and NOTIFY."""

import asyncio
import time
from collections.abc import Callable

import structlog

from app.db.batch_store import CHANNEL
from app.db.engine import Database
from app.errors import ServiceUnavailable

_FIRST_PAUSE_SECONDS = 0.1
_MAX_PAUSE_SECONDS = 5.0
_log = structlog.get_logger(__name__)


class Notifier:
    """Calls `on_notification` when any process commits events.

    Reconnects if needed. Notifications sent while disconnected are lost, so the callee must also poll occasionally.
    """

    def __init__(self, database: Database, on_notification: Callable[[], None]) -> None:
        self._database = database
        self._on_notification = on_notification
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start listening in the background."""
        self._task = asyncio.create_task(self._run(), name="notifications")

    async def aclose(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            began = time.monotonic()
            try:
                await self._database.listen(CHANNEL, self._on_notification)
            except ServiceUnavailable as error:
                _log.warning("notifications_lost", error=repr(error.__cause__))
            except Exception:  # noqa: BLE001 -- logged; events would be late for good if this task ended
                _log.exception("notifications_failed")
            # A connection that breaks at once has not recovered.
            if time.monotonic() - began > _MAX_PAUSE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            await asyncio.sleep(pause)
            pause = min(pause * 2, _MAX_PAUSE_SECONDS)
