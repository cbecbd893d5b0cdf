"""An event as those who listen are told of it."""

import json
from dataclasses import dataclass
from functools import cached_property

from app.domain.event import StoredEvent, concludes, task_at
from app.domain.image import Image
from app.domain.task import Status, Task
from app.domain.task_state import TaskState, task_view


@dataclass(frozen=True)
class FeedEvent:
    """One event with the task as it was then. `frame` is made once, however many listen."""

    id: int
    type: str
    state: TaskState
    is_conclusion: bool
    """Whether the task has nothing more to tell after this."""
    base_url: str

    @cached_property
    def frame(self) -> bytes:
        """The event in the form of `text/event-stream` (HTML standard, 9.2): JSON has no line breaks of its own."""
        data = json.dumps(task_view(self.state, self.base_url), ensure_ascii=False, separators=(",", ":"))
        return f"id: {self.id}\nevent: {self.type}\ndata: {data}\n\n".encode()


def feed_event(event: StoredEvent, task: Task, images: list[Image], base_url: str) -> FeedEvent:
    """Put together how a task was when an event was made; positions in the queue are not told afterwards."""
    then = task_at(task, event.snapshot)
    shown = images if then.status is Status.SUCCEEDED else []
    return FeedEvent(event.id, event.type, TaskState(then, shown, None), concludes(event), base_url)
