"""The unit of work: one transaction, and what is written at its end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from app.db import batch_store, callback_store
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
    """What is decided about a task.

    The result for the caller, the transition to write, a callback to keep, or that the task is to be deleted with
    everything that belongs to it.
    """

    result: T
    transition: Transition | None = None
    callback: ReceivedCallback | None = None
    remove: bool = False


Decider = Callable[[Task | None], Decision[T]]
"""A pure function from the current task (None: there is none) to a decision. It may be called more than once; a
`GatewayError` that it raises goes to the caller and changes nothing."""


@dataclass(slots=True)
class UnitOfWork:
    """One transaction: its connection, its time, and what is written when it is flushed.

    On SQLite it runs in a thread of its own: what concerns the event loop is done `after` the commit.
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
    """Tasks whose oldest callbacks are dropped."""
    after: list[Callable[[], None]] = field(default_factory=list)

    def note(self, transition: Transition) -> None:
        """Add the event and the images of a transition."""
        has_images_to_keep = self.keeps_images and bool(transition.image_urls)
        if transition.is_event:
            self.events.append(event_of(transition.task, images_follow=has_images_to_keep))
        if transition.image_urls:
            self.images.extend(
                new_images(transition.task.id, transition.image_urls, is_kept=has_images_to_keep, now=self.now)
            )

    def write(self, applied: Sequence[Transition]) -> None:
        """Write transitions of tasks that this transaction has locked, at most one for each."""
        if applied:
            batch_store.write(self.connection, Batch(changed=[transition.task for transition in applied]))
            for transition in applied:
                self.note(transition)

    def flush_tasks(self) -> None:
        """Write the tasks added so far, so that later work of this transaction finds them."""
        if self.created or self.changed:
            batch_store.write(self.connection, Batch(created=self.created, changed=self.changed))
            self.created, self.changed = [], []

    def flush(self) -> None:
        """Write everything added; to be called last, as events hold a lock until the commit."""
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
