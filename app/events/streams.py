"""Event streams deliver each event once and in order.

Past events come from the table, new ones from the broadcaster.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from app.db import event_store, task_store
from app.db.engine import Connection, Database
from app.domain.caller import Caller
from app.domain.event import StoredEvent, is_concluded
from app.errors import GatewayError, ServiceUnavailable, SlowReader, TaskNotFound
from app.events.broadcaster import EventBroadcaster
from app.events.subscription import Subscription
from app.shapes.event import BroadcastEvent
from app.web.chunk_sender import STALL_SECONDS
from app.web.open_requests import OpenRequests

_REPLAY_BATCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """Limits of each event stream.

    Up to `max_waiting` events can be unsent. A heartbeat is sent after `heartbeat_seconds` without an event. A client
    that doesn't read is disconnected after `stall_seconds`, or after `stop_seconds` when the process stops.
    """

    max_waiting: int = 1_000
    heartbeat_seconds: float = 15.0
    stall_seconds: float = STALL_SECONDS
    stop_seconds: float = 1.0


@dataclass(eq=False)
class Stream:
    """One client's stream. It holds no database connection between calls."""

    database: Database
    broadcaster: EventBroadcaster
    subscription: Subscription
    limits: StreamLimits
    position: int = 0
    """ID of the last event returned. The stream continues after it."""
    is_replaying: bool = True
    """Whether the table may contain events that won't be broadcast."""
    is_over: bool = False
    cut: GatewayError | None = None
    """Why the stream ends early; the client may reconnect and resume."""

    async def next(self, seconds: float) -> list[BroadcastEvent]:
        """Return the next events, or none at timeout or end.

        Raises `ServiceUnavailable`, and `TaskNotFound` if the task doesn't exist or was deleted.
        """
        while self.is_replaying and not self.subscription.is_closed:
            events = await self._replay()
            if events or self.is_over:
                return events
        waiting = await self.subscription.take(seconds)
        # An interrupted replay leaves a gap before the broadcast events, which only a resumed stream can fill.
        events = [] if self.is_replaying else [event for event in waiting if event.id > self.position]
        if events and self.subscription.ended_by is None:
            self.position = events[-1].id
            self.is_over = self.subscription.task_id is not None and events[-1].is_conclusion
            return events
        self.cut = self._reason_to_cut()
        self.is_over = self.cut is not None
        return []

    def _reason_to_cut(self) -> GatewayError | None:
        if self.subscription.ended_by is not None:
            return self.subscription.ended_by
        if self.subscription.is_too_slow:
            return SlowReader("Events arrived faster than they were read; resume after the last event received.")
        if self.broadcaster.is_stopped:
            return ServiceUnavailable("The service is stopping; resume after the last event received.")
        return _gone(self.subscription) if self.subscription.is_closed else None

    def close(self) -> None:
        """Make a pending `next` return because the client disconnected."""
        self.subscription.close()

    def on_stop(self, call: Callable[[], None]) -> None:
        """Set the function to call when the process stops."""
        self.subscription.on_close = lambda: call() if self.broadcaster.is_stopped else None

    async def _replay(self) -> list[BroadcastEvent]:
        """Read the next page of past events.

        Events broadcast so far are in this page or a later one, so they are dropped. Later ones follow the last page
        without a gap. If the buffer overflows, another page is read.
        """
        self.subscription.clear()

        def work(connection: Connection) -> tuple[bool, list[StoredEvent], list[BroadcastEvent]]:
            # Read this first, so that the page includes any ending seen here.
            has_ended = self._has_ended(connection)
            page = self._page(connection)
            return has_ended, page, self.broadcaster.complete(connection, page)

        has_ended, page, events = await self.database.read(work)
        if page:
            self.position = page[-1].id
        if len(page) < _REPLAY_BATCH and not self.subscription.is_too_slow:
            self.is_replaying = False
            ends_here = bool(events) and events[-1].is_conclusion
            self.is_over = self.subscription.task_id is not None and (has_ended or ends_here)
        return [event for event in events if self.subscription.caller.owns(event.state.task)]

    def _has_ended(self, connection: Connection) -> bool:
        if self.subscription.task_id is None:
            return False
        task = task_store.get(connection, self.subscription.task_id)
        if task is None or not self.subscription.caller.owns(task):
            raise _gone(self.subscription)
        images = task_store.images_of(connection, [task.id]) if task.is_terminal else {}
        return is_concluded(task, images.get(task.id, []))

    def _page(self, connection: Connection) -> list[StoredEvent]:
        task_id, caller, after = self.subscription.task_id, self.subscription.caller, self.position
        if task_id is not None:
            return event_store.of_task_after(connection, task_id, after, limit=_REPLAY_BATCH)
        return event_store.of_project_after(
            connection, caller.project, after, subject=caller.subject, limit=_REPLAY_BATCH
        )


@dataclass(eq=False, kw_only=True)
class Streams:
    """Opens streams."""

    database: Database
    broadcaster: EventBroadcaster
    limits: StreamLimits
    open_requests: OpenRequests

    @asynccontextmanager
    async def of_task(self, caller: Caller, task_id: str, *, after: int | None) -> AsyncIterator[Stream]:
        """Stream a task's events with IDs above `after`, or all.

        Raises `TooManyStreams`, `TooManyOpenRequests` and `ServiceUnavailable`. If the task doesn't exist, `next`
        raises `TaskNotFound`.
        """
        async with self._open(caller, task_id) as (stream, newest):
            stream.position = min(after or 0, newest)
            yield stream

    @asynccontextmanager
    async def of_project(self, caller: Caller, *, after: int | None) -> AsyncIterator[Stream]:
        """Stream the caller's events above `after`, or new ones.

        Raises `TooManyStreams`, `TooManyOpenRequests` and `ServiceUnavailable`.
        """
        async with self._open(caller, None) as (stream, newest):
            # A higher ID comes from another database or from before a backup was restored.
            stream.position = newest if after is None else min(after, newest)
            stream.is_replaying = stream.position < newest
            yield stream

    @asynccontextmanager
    async def _open(self, caller: Caller, task_id: str | None) -> AsyncIterator[tuple[Stream, int]]:
        """Open a stream; yields it with the newest event ID."""
        if (refusal := self.open_requests.refusal(caller)) is not None:
            raise refusal
        if self.broadcaster.is_stopped:
            raise ServiceUnavailable("The service is stopping.")
        subscription = Subscription(caller, task_id, max_waiting=self.limits.max_waiting)
        stream = Stream(self.database, self.broadcaster, subscription, self.limits)
        with self.open_requests.opened(caller):
            async with self.broadcaster.subscribed(subscription):
                yield stream, await self.database.read(event_store.newest_id)


def _gone(subscription: Subscription) -> TaskNotFound:
    return TaskNotFound(f"No task has the ID {subscription.task_id}.")
