"""Streams of events: what was before from the table, what comes from the feed, each once and in order."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from app.db import event_store, task_store
from app.db.engine import Connection, Database
from app.domain.caller import Caller
from app.domain.event import StoredEvent, is_concluded
from app.errors import GatewayError, ServiceUnavailable, SlowReader, TaskNotFound, TooManyStreams
from app.events.broadcaster import EventBroadcaster
from app.events.subscription import Subscription
from app.shapes.event import BroadcastEvent
from app.web.chunk_sender import STALL_SECONDS

_REPLAYED_AT_ONCE = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """What one process holds for those who follow, and how long it waits for them.

    `most_waits` requests that wait and `most_open` streams; `most_waiting` events for a client that reads slowly; a
    sign of life after `heartbeat_seconds` without an event; a client that leaves unread what was sent is dropped after
    `stall_seconds`, or after `stop_seconds` when the process stops.
    """

    most_waits: int = 10_000
    most_open: int = 10_000
    most_waiting: int = 1_000
    heartbeat_seconds: float = 15.0
    stall_seconds: float = STALL_SECONDS
    stop_seconds: float = 1.0


class Stream:
    """One client's way through the events that concern it. Between two calls it holds no database connection."""

    def __init__(
        self, *, database: Database, broadcaster: EventBroadcaster, subscription: Subscription, limits: StreamLimits
    ) -> None:
        self.limits = limits
        self.position = 0
        """The id of the last event told, or after which to begin."""
        self.is_replaying = True
        """Whether there may be events in the table that the feed won't tell."""
        self.is_over = False
        self.cut: GatewayError | None = None
        """Why the stream is over although there may be more to tell; the client may come back and resume."""
        self._database = database
        self._broadcaster = broadcaster
        self._subscription = subscription

    async def next(self, seconds: float) -> list[BroadcastEvent]:
        """Return what comes next; empty if nothing came in that time or the stream is over.

        Raises `ServiceUnavailable`, and `TaskNotFound` if the task is not there (any more).
        """
        while self.is_replaying and not self._subscription.is_closed:
            events = await self._replay()
            if events or self.is_over:
                return events
        told = await self._subscription.take(seconds)
        # Cut amid a replay, what the feed has told lies beyond a gap that only a resumed stream can close.
        events = [] if self.is_replaying else [event for event in told if event.id > self.position]
        if self._subscription.ended_by is not None:
            self._end(self._subscription.ended_by)
            return []
        if events:
            self.position = events[-1].id
            self.is_over = self._subscription.task_id is not None and events[-1].is_conclusion
        elif self._subscription.is_too_slow:
            self._end(SlowReader("Events came faster than they were read; resume after the last one that arrived."))
        elif self._broadcaster.is_stopped:
            self._end(ServiceUnavailable("The service is stopping; resume after the last event that arrived."))
        elif self._subscription.is_closed:
            self._end(_gone(self._subscription))
        return events

    def leave(self) -> None:
        """Wake whoever waits in `next`: the client is gone."""
        self._subscription.close()

    def on_stop(self, call: Callable[[], None]) -> None:
        """Have `call` called when the process stops."""
        self._subscription.on_close = lambda: call() if self._broadcaster.is_stopped else None

    def _end(self, cut: GatewayError) -> None:
        self.is_over, self.cut = True, cut

    async def _replay(self) -> list[BroadcastEvent]:
        """Read the next page of what was before.

        What the feed has told until now is in this page or a later one, so it is forgotten. What it tells from now on
        follows the last page without a gap, unless it was too much to hold: then there is one more page.
        """
        self._subscription.clear()

        def work(connection: Connection) -> tuple[bool, list[StoredEvent], list[BroadcastEvent]]:
            # First: an end that shows here is in the page as well.
            has_ended = self._has_ended(connection)
            page = self._page(connection)
            return has_ended, page, self._broadcaster.complete(connection, page)

        has_ended, page, told = await self._database.read(work)
        if page:
            self.position = page[-1].id
        if len(page) < _REPLAYED_AT_ONCE and not self._subscription.is_too_slow:
            self.is_replaying = False
            ends_here = bool(told) and told[-1].is_conclusion
            self.is_over = self._subscription.task_id is not None and (has_ended or ends_here)
        return [event for event in told if self._subscription.owns(event.state.task)]

    def _has_ended(self, connection: Connection) -> bool:
        if self._subscription.task_id is None:
            return False
        task = task_store.get(connection, self._subscription.task_id)
        if task is None or not self._subscription.owns(task):
            raise _gone(self._subscription)
        images = task_store.images_of(connection, [task.id]) if task.is_terminal else {}
        return is_concluded(task, images.get(task.id, []))

    def _page(self, connection: Connection) -> list[StoredEvent]:
        subscription, after = self._subscription, self.position
        if subscription.task_id is not None:
            return event_store.of_task_after(connection, subscription.task_id, after, limit=_REPLAYED_AT_ONCE)
        return event_store.of_project_after(
            connection, subscription.project, after, subject=subscription.subject, limit=_REPLAYED_AT_ONCE
        )


class Streams:
    """Opens streams."""

    def __init__(self, *, database: Database, broadcaster: EventBroadcaster, limits: StreamLimits) -> None:
        self._database = database
        self._broadcaster = broadcaster
        self._limits = limits
        self.count = 0
        """How many are open now."""

    @asynccontextmanager
    async def of_task(self, caller: Caller, task_id: str, *, after: int | None) -> AsyncIterator[Stream]:
        """Follow a task: all its events, or those with ids above `after`, until it has nothing more to tell.

        Raises `TooManyStreams` and `ServiceUnavailable`; that there is no such task is told by the first `next`.
        """
        with self._listen(caller, task_id) as stream:
            await self._broadcaster.begin()
            stream.position = min(after, await self._newest_id()) if after else 0
            yield stream

    @asynccontextmanager
    async def of_project(self, caller: Caller, *, after: int | None) -> AsyncIterator[Stream]:
        """Follow all tasks of the caller: the events with ids above `after`, or those from now on.

        Raises `TooManyStreams` and `ServiceUnavailable`.
        """
        with self._listen(caller, None) as stream:
            await self._broadcaster.begin()
            newest = await self._newest_id()
            # An id that was never given out comes from another database, or from before a backup was restored.
            stream.position = newest if after is None else min(after, newest)
            stream.is_replaying = stream.position < newest
            yield stream

    @contextmanager
    def _listen(self, caller: Caller, task_id: str | None) -> Iterator[Stream]:
        if self.count >= self._limits.most_open:
            raise TooManyStreams(f"This process holds {self.count} open streams and can't hold more.")
        if self._broadcaster.is_stopped:
            raise ServiceUnavailable("The service is stopping.")
        subscription = Subscription(caller, task_id, most_waiting=self._limits.most_waiting)
        self.count += 1
        try:
            with self._broadcaster.subscribed(subscription):
                yield Stream(
                    database=self._database,
                    broadcaster=self._broadcaster,
                    subscription=subscription,
                    limits=self._limits,
                )
        finally:
            self.count -= 1

    async def _newest_id(self) -> int:
        return await self._database.read(event_store.newest_id)


def _gone(subscription: Subscription) -> TaskNotFound:
    return TaskNotFound(f"There is no task {subscription.task_id}.")
