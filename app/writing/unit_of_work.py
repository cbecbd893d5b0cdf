"""The unit of work: one transaction and its pending changes."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from app.db import batch_store, blob_store, callback_store, event_store, image_store, task_store
from app.db.batch_store import Batch
from app.db.engine import Connection
from app.domain.callback import ReceivedCallback
from app.domain.delivery import plan
from app.domain.event import TaskEvent, event_of
from app.domain.image import Image, new_images
from app.domain.task import Task
from app.domain.transitions import Transition

T = TypeVar("T")


class Decision(msgspec.Struct, Generic[T], frozen=True):
    """A decision about a task: what to return and write.

    It is either a transition and a callback to keep, or the removal of the task with everything that belongs to it.
    """

    result: T
    transition: Transition | None = None
    callback: ReceivedCallback | None = None
    remove: bool = False


Decider = Callable[[Task | None], Decision[T]]
"""A pure function from the current task (None if it doesn't exist) to a decision. It may be called more than once. If
it raises a `GatewayError`, nothing changes and the caller gets the error."""


@dataclass(slots=True)
class UnitOfWork:
    """One transaction: its connection, time and pending changes.

    On SQLite it runs outside the event loop's thread; functions in `after` are called in the loop, after the commit.
    """

    connection: Connection
    now: int
    keeps_images: bool = False
    created: list[Task] = field(default_factory=list)
    changed: list[Task] = field(default_factory=list)
    events: list[TaskEvent] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    callbacks: list[ReceivedCallback] = field(default_factory=list)
    overfull: list[str] = field(default_factory=list)
    """Tasks whose oldest callbacks are to be deleted."""
    locks_events: bool = False
    """Whether to lock event numbers even without an event, to check that the lock is free."""
    after: list[Callable[[], None]] = field(default_factory=list)

    def record(self, transition: Transition) -> None:
        """Add the event and the images of a transition."""
        task, urls = transition.task, transition.image_urls
        is_kept = self.keeps_images and bool(urls)
        if transition.is_event:
            self.events.append(event_of(task, images_follow=is_kept))
        self.images += new_images(task.id, urls, is_kept=is_kept, now=self.now)

    def write(self, applied: Sequence[Transition]) -> None:
        """Write transitions of locked tasks, at most one per task."""
        self.changed += [transition.task for transition in applied]
        self.flush_tasks()
        for transition in applied:
            self.record(transition)

    def remove_tasks(self, task_ids: Collection[str]) -> None:
        """Delete locked tasks with everything that belongs to them.

        Their files are collected later.
        """
        if task_ids:
            hashes = image_store.hashes_of(self.connection, task_ids)
            blob_store.release(self.connection, hashes, now=self.now)
            task_store.remove(self.connection, task_ids)

    def flush_tasks(self) -> None:
        """Write pending tasks, so that later work can read them."""
        if self.created or self.changed:
            batch_store.write(self.connection, Batch(created=self.created, changed=self.changed))
            self.created, self.changed = [], []

    def flush(self) -> None:
        """Write all pending changes.

        Must come last, as events hold a lock until the commit.
        """
        batch = Batch(
            created=self.created,
            changed=self.changed,
            images=self.images,
            callbacks=self.callbacks,
            deliveries=[delivery for delivery in map(plan, self.events) if delivery is not None],
            events=self.events,
        )
        if any((batch.created, batch.changed, batch.images, batch.callbacks, batch.events)):
            batch_store.write(self.connection, batch)
        for task_id in self.overfull:
            callback_store.trim(self.connection, task_id)
        if self.locks_events:
            event_store.lock_numbers(self.connection)
