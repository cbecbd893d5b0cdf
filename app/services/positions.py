"""Where in the queue a task stands, told from a snapshot that is renewed now and then.

Counting the queue for every answer would read all of it every time. A snapshot takes the longer to make the longer
the queue is, so that of a long one is kept in use for a multiple of that time: exact while the queue is short, cheap
when it is deep.
"""

import asyncio
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from app.db import tasks as task_rows
from app.db.engine import Database

_SHORT_QUEUE = 200
_KEPT_FOR_ITS_COST = 50
_MAX_MARKS = 500


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Ids of the queue in order, each with its position: all of them, or of a deep queue every so manieth."""

    taken_at: float = 0.0
    good_until: float = 0.0
    ids: Sequence[str] = ()
    positions: Sequence[int] = ()

    def position(self, task_id: str) -> int:
        index = bisect_right(self.ids, task_id)
        if index == 0:
            return 1
        known = self.positions[index - 1]
        return known if self.ids[index - 1] == task_id else known + 1


class QueuePositions:
    """Tells positions, 1 for the next. Of a queue deeper than some hundreds they are near, not exact."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._snapshot = _Snapshot()
        self._renewing = asyncio.Lock()

    async def of(self, task_ids: Sequence[str]) -> dict[str, int]:
        """Tell the positions of queued tasks; raises `ServiceUnavailable`."""
        if not task_ids:
            return {}
        asked_at = time.monotonic()
        if self._is_stale(asked_at):
            async with self._renewing:
                # Somebody who waited before us may have renewed it since we asked.
                if self._is_stale(asked_at):
                    await self._renew()
        return {task_id: self._snapshot.position(task_id) for task_id in task_ids}

    def _is_stale(self, asked_at: float) -> bool:
        return self._snapshot.taken_at < asked_at and time.monotonic() >= self._snapshot.good_until

    async def _renew(self) -> None:
        began = time.monotonic()
        marks = await self._database.read(lambda connection: task_rows.queue_marks(connection, _MAX_MARKS))
        ended = time.monotonic()
        kept_for = _KEPT_FOR_ITS_COST * (ended - began) if len(marks) > _SHORT_QUEUE else 0.0
        self._snapshot = _Snapshot(began, ended + kept_for, [mark[0] for mark in marks], [mark[1] for mark in marks])
