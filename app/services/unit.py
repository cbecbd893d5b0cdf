"""One transaction in the making, and what a pure decision about a task may ask of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec

from app.db import tasks as task_rows
from app.db.engine import Connection
from app.domain.callback import ReceivedCallback
from app.domain.event import TaskEvent, event_of
from app.domain.image import Image, new_images
from app.domain.moves import Step
from app.domain.task import Task

T = TypeVar("T")


class Decision(msgspec.Struct, Generic[T], frozen=True):
    """What is decided about a task.

    The result for the caller, the change to write, a callback to keep, or that the task is to be deleted with all
    that hangs on it.
    """

    result: T
    step: Step | None = None
    callback: ReceivedCallback | None = None
    remove: bool = False


Decider = Callable[[Task | None], Decision[T]]
"""A pure function from the task as it is (None: there is none) to a decision. It may be called more than once; a
`GatewayError` that it raises goes to the caller and changes nothing."""


@dataclass(slots=True)
class Unit:
    """One transaction: its connection, its time, and what is written at its end (events last, see `db.events`).

    On SQLite it runs in a thread of its own: what concerns the event loop is done `after` the commit.
    """

    connection: Connection
    now: int
    keeps_images: bool = False
    created: list[Task] = field(default_factory=list)
    changed: list[Task] = field(default_factory=list)
    before: dict[str, Task | None] = field(default_factory=dict)
    """How the changed tasks were."""
    events: list[TaskEvent] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    callbacks: list[ReceivedCallback] = field(default_factory=list)
    overfull: list[str] = field(default_factory=list)
    """Tasks of which older callbacks are to be dropped."""
    after: list[Callable[[], None]] = field(default_factory=list)

    def note(self, step: Step) -> None:
        """Remember the event and the images of a movement."""
        has_images_to_keep = self.keeps_images and bool(step.image_urls)
        if step.is_event:
            self.events.append(event_of(step.task, images_follow=has_images_to_keep))
        if step.image_urls:
            self.images.extend(new_images(step.task.id, step.image_urls, is_kept=has_images_to_keep, now=self.now))

    def write(self, steps: Sequence[Step]) -> None:
        """Write movements of tasks that this transaction has locked, at most one for each."""
        if steps:
            task_rows.save(self.connection, [step.task for step in steps])
            for step in steps:
                self.note(step)
