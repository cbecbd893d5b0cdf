"""Reads each new event once for all subscriptions.

A commit or a notification wakes the broadcaster. Either can get lost, so it also reads periodically. Without
subscriptions it reads nothing.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

import structlog

from app.db import event_store, task_store
from app.db.engine import Connection, Database
from app.domain.event import StoredEvent
from app.domain.image import Image
from app.domain.task import Status, Task
from app.events.subscription import Subscription
from app.shapes.event import BroadcastEvent, broadcast_event
from app.writing.wake_up import WakeUp

_EVENTS_BATCH = 250
_SUBSCRIPTIONS_BATCH = 50
_DELETION_CHECK_SECONDS = 5.0
_DELETION_CHECK_BATCH = 1_000
_log = structlog.get_logger(__name__)


class EventBroadcaster:
    """Pushes new events to matching subscriptions; a loop calls `broadcast`."""

    def __init__(
        self, database: Database, *, base_url: str, deletion_check_seconds: float = _DELETION_CHECK_SECONDS
    ) -> None:
        self.wake_up = WakeUp()
        self.is_stopped = False
        self._database = database
        self._base_url = base_url
        self._of_tasks: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._of_projects: defaultdict[str, set[Subscription]] = defaultdict(set)
        self._last: int | None = None
        """The highest event id broadcast; None without subscriptions."""
        self._starting = asyncio.Lock()
        self._deletion_check_seconds = deletion_check_seconds
        self._next_deletion_check = 0.0

    def wake(self) -> None:
        """Wake the broadcaster, as events may have been committed."""
        if self._last is not None:
            self.wake_up.wake()

    def stop(self) -> None:
        """Close all subscriptions, so they don't delay shutdown."""
        self.is_stopped = True
        for subscriptions in [*self._of_tasks.values(), *self._of_projects.values()]:
            for subscription in subscriptions:
                subscription.close()

    @asynccontextmanager
    async def subscribed(self, subscription: Subscription) -> AsyncIterator[None]:
        """Push new events until the caller's credential ends.

        Events read from the tables inside the context leave no gap before the pushed events, but may overlap with them;
        compare IDs to find duplicates. Raises `ServiceUnavailable`.
        """
        table, name = self._of_projects, subscription.caller.project
        if subscription.task_id is not None:
            table, name = self._of_tasks, subscription.task_id
        table[name].add(subscription)
        if self.is_stopped:
            subscription.close()
        try:
            with subscription.caller.until_over(subscription.end):
                async with self._starting:
                    if self._last is None:
                        self._last = await self._database.read(event_store.newest_id)
                yield
        finally:
            table[name].remove(subscription)
            if not table[name]:
                del table[name]
            if not self._of_tasks and not self._of_projects:
                self._last = None

    async def broadcast(self) -> int:
        """Broadcast a page of new events; raises `ServiceUnavailable`.

        Returns 1 if there may be more, otherwise 0.
        """
        if self._last is None:
            return 0
        before = self._last
        try:
            page = await self._database.read(
                lambda connection: event_store.after(connection, before, limit=_EVENTS_BATCH)
            )
            wanted = self._choose(page)
            events = await self._database.read(lambda connection: self.complete(connection, wanted)) if wanted else []
        except BaseException:
            self._last = None if self._last is None else min(self._last, before)
            raise
        await self._push(events)
        await self._close_deleted()
        return int(len(page) == _EVENTS_BATCH)

    def complete(self, connection: Connection, events: Sequence[StoredEvent]) -> list[BroadcastEvent]:
        """Add its task and images to each event.

        Skips unreadable events and those of deleted tasks.
        """
        tasks = task_store.get_all(connection, {event.task_id for event in events})
        done = sorted(task.id for task in tasks.values() if task.status is Status.SUCCEEDED)
        images = task_store.images_of(connection, done)
        found = [
            _read(event, tasks[event.task_id], images.get(event.task_id, []), self._base_url)
            for event in events
            if event.task_id in tasks
        ]
        return [event for event in found if event is not None]

    def _choose(self, page: Sequence[StoredEvent]) -> list[StoredEvent]:
        """Return the events of a page that a subscription wants.

        The page counts as broadcast from now on, as new subscribers read it from the table.
        """
        if self._last is None or not page:
            return []
        self._last = max(self._last, page[-1].id)
        return [
            event
            for event in page
            if event.project in self._of_projects
            or any(subscription.wants(event.type) for subscription in self._of_tasks.get(event.task_id, ()))
        ]

    async def _push(self, events: Sequence[BroadcastEvent]) -> None:
        by_project: defaultdict[str, list[BroadcastEvent]] = defaultdict(list)
        for event in events:
            by_project[event.state.task.project].append(event)
            for subscription in self._of_tasks.get(event.state.task.id, ()):
                subscription.push(event)
        count = 0
        for project, of_project in by_project.items():
            for subscription in tuple(self._of_projects.get(project, ())):
                for event in of_project:
                    subscription.push(event)
                count += 1
                if count % _SUBSCRIPTIONS_BATCH == 0:
                    # Don't block other requests while a thousand streams get their events.
                    await asyncio.sleep(0)

    async def _close_deleted(self) -> None:
        """Periodically close subscriptions of deleted tasks; deletions create no event."""
        if not self._of_tasks or time.monotonic() < self._next_deletion_check:
            return
        self._next_deletion_check = time.monotonic() + self._deletion_check_seconds
        task_ids = list(self._of_tasks)
        for start in range(0, len(task_ids), _DELETION_CHECK_BATCH):
            batch = task_ids[start : start + _DELETION_CHECK_BATCH]
            for task_id in await self._database.read(partial(task_store.missing, task_ids=batch)):
                for subscription in self._of_tasks.get(task_id, ()):
                    subscription.close()


def _read(event: StoredEvent, task: Task, images: Sequence[Image], base_url: str) -> BroadcastEvent | None:
    """Return an event with its task; None if unreadable."""
    try:
        return broadcast_event(event, task, images, base_url)
    except (LookupError, TypeError, ValueError) as error:
        # One event must not stop all streams.
        _log.warning("event_skipped", event_id=event.id, task_id=event.task_id, type=event.type, error=repr(error))
        return None
