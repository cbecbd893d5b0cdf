"""The feed: reads each new event once, for all who listen in this process.

Thousands may wait for a task or follow a project; the table is read once for all of them, when a commit wakes it or,
as wake-ups and notices may get lost, every so often. While nobody listens, nothing is read.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

from app.db import event_store, task_store
from app.db.engine import Connection, Database
from app.domain.event import StoredEvent
from app.domain.task import TERMINAL, Status
from app.events.subscription import Subscription
from app.shapes.event import BroadcastEvent, broadcast_event
from app.writing.wake_up import WakeUp

_EVENTS_AT_ONCE = 250
_LISTENERS_AT_ONCE = 50
_CENSUS_SECONDS = 5.0
_CENSUS_AT_ONCE = 1_000
_ENDINGS = frozenset(f"task.{status.value}" for status in TERMINAL)


class EventBroadcaster:
    """Hands new events to the listeners they concern. `wake_up` is what a loop waits for before it calls `look`."""

    def __init__(self, database: Database, *, base_url: str, census_seconds: float = _CENSUS_SECONDS) -> None:
        self.wake_up = WakeUp()
        self._database = database
        self._base_url = base_url
        self._of_tasks: dict[str, set[Subscription]] = {}
        self._of_projects: dict[str, set[Subscription]] = {}
        self._last: int | None = None
        """The highest id handed out; None while nobody listens."""
        self._beginning = asyncio.Lock()
        self._census_seconds = census_seconds
        self._next_census = 0.0
        self._is_stopped = False

    @property
    def is_stopped(self) -> bool:
        """Whether the process is stopping: nobody is told anything any more."""
        return self._is_stopped

    def wake(self) -> None:
        """Tell that events may have been committed."""
        if self._last is not None:
            self.wake_up.wake()

    def stop(self) -> None:
        """Wake all listeners for the last time, so that open connections don't hold up the end of the process."""
        self._is_stopped = True
        for listeners in [*self._of_tasks.values(), *self._of_projects.values()]:
            for subscription in listeners:
                subscription.close()

    @contextmanager
    def subscribed(self, subscription: Subscription) -> Iterator[None]:
        """Have a listener told of what concerns it, until its caller is not let in any more.

        `begin` must follow before it reads anything.
        """
        table, name = (
            (self._of_tasks, subscription.task_id)
            if subscription.task_id
            else (self._of_projects, subscription.project)
        )
        table.setdefault(name, set()).add(subscription)
        if self._is_stopped:
            subscription.close()
        try:
            with subscription.until_over(subscription.end):
                yield
        finally:
            table[name].remove(subscription)
            if not table[name]:
                del table[name]
            if not self._of_tasks and not self._of_projects:
                self._last = None

    async def begin(self) -> None:
        """Make sure that whatever is committed from now on is told; raises `ServiceUnavailable`.

        What a listener reads from the tables after this, and what it is told, leave no gap between them. They may
        overlap: ids tell.
        """
        if self._last is None:
            async with self._beginning:
                if self._last is None:
                    self._last = await self._database.read(event_store.newest_id)

    async def look(self) -> int:
        """Read what is new and hand it out; returns 1 if there may be more right now. Raises `ServiceUnavailable`."""
        if self._last is None:
            return 0
        before = self._last
        try:
            page = await self._database.read(
                lambda connection: event_store.after(connection, before, limit=_EVENTS_AT_ONCE)
            )
            wanted = self._choose(page)
            told = await self._database.read(lambda connection: self.complete(connection, wanted)) if wanted else []
        except BaseException:
            self._last = None if self._last is None else min(self._last, before)
            raise
        await self._hand_out(told)
        await self._take_census()
        return int(len(page) == _EVENTS_AT_ONCE)

    def complete(self, connection: Connection, events: Sequence[StoredEvent]) -> list[BroadcastEvent]:
        """Read what belongs to events; those whose task was deleted meanwhile are left out."""
        tasks = task_store.get_all(connection, {event.task_id for event in events})
        done = sorted(task.id for task in tasks.values() if task.status is Status.SUCCEEDED)
        images = task_store.images_of(connection, done)
        return [
            broadcast_event(event, tasks[event.task_id], images.get(event.task_id, []), self._base_url)
            for event in events
            if event.task_id in tasks
        ]

    def _choose(self, page: Sequence[StoredEvent]) -> list[StoredEvent]:
        """Tell what of a page anybody wants to hear.

        From this moment the page counts as handed out: whoever begins to listen later finds it in the table.
        """
        if self._last is None or not page:
            return []
        self._last = max(self._last, page[-1].id)
        return [event for event in page if self._is_wanted(event)]

    def _is_wanted(self, event: StoredEvent) -> bool:
        if event.project in self._of_projects:
            return True
        is_ending = event.type in _ENDINGS
        return any(is_ending or not one.endings_only for one in self._of_tasks.get(event.task_id, ()))

    async def _hand_out(self, told: Sequence[BroadcastEvent]) -> None:
        of_projects: defaultdict[str, list[BroadcastEvent]] = defaultdict(list)
        for event in told:
            task = event.state.task
            of_projects[task.project].append(event)
            for subscription in self._of_tasks.get(task.id, ()):
                if subscription.owns(task) and (event.type in _ENDINGS or not subscription.endings_only):
                    subscription.push(event)
        handed = 0
        for project, events in of_projects.items():
            for subscription in tuple(self._of_projects.get(project, ())):
                for event in events:
                    if subscription.owns(event.state.task):
                        subscription.push(event)
                handed += 1
                if handed % _LISTENERS_AT_ONCE == 0:
                    # Requests that come in meanwhile don't wait until a thousand streams have sent.
                    await asyncio.sleep(0)

    async def _take_census(self) -> None:
        """Now and then, look whether tasks that are listened to were deleted: that makes no event."""
        if not self._of_tasks or time.monotonic() < self._next_census:
            return
        self._next_census = time.monotonic() + self._census_seconds
        watched = list(self._of_tasks)
        for start in range(0, len(watched), _CENSUS_AT_ONCE):
            some = watched[start : start + _CENSUS_AT_ONCE]
            gone = await self._database.read(partial(task_store.missing, task_ids=some))
            for task_id in gone:
                for subscription in self._of_tasks.get(task_id, ()):
                    subscription.close()
