"""Tasks as clients see them in responses, streams and webhooks."""

from dataclasses import dataclass
from typing import Annotated, NotRequired, cast

from pydantic import Field
from typing_extensions import TypedDict

from app.clock import isoformat
from app.domain.callback import ReceivedCallback
from app.domain.image import ImageState
from app.domain.models import Model, TaskType
from app.domain.task import Status, TaskState, WaitReason
from app.domain.verdict import ErrorCode
from app.shapes.base import Time

IMAGE_PATH = "/v1/images"

NextCursor = Annotated[
    str | None, Field(description="Pass this as `cursor` to get the next page. Null on the last page.")
]


class TaskInput(TypedDict):
    """The task's parameters, including the model's defaults."""

    prompt: str
    image_urls: list[str]
    num_images: NotRequired[int]
    aspect_ratio: NotRequired[str | None]
    watermark: NotRequired[str | None]
    resolution: NotRequired[str | None]
    google_search: NotRequired[bool | None]
    output_format: NotRequired[str | None]


@dataclass(slots=True)
class Image:
    """A result image."""

    id: Annotated[str, Field(examples=["img_0a1b2c3d4e5f60718293a4b5c6d7e8f9"])]
    url: Annotated[str, Field(description="URL on this service, or `source_url` if `state` is `unavailable`.")]
    source_url: Annotated[str, Field(description="URL of the original on the upstream. It expires.")]
    state: ImageState
    reason: Annotated[str | None, Field(description="Why there is no copy. Null unless `state` is `unavailable`.")]
    content_type: str | None
    bytes: int | None
    width: int | None
    height: int | None


@dataclass(slots=True)
class TaskError:
    """Why a task failed."""

    code: ErrorCode
    message: str
    upstream_code: Annotated[str | None, Field(description="The upstream's own code, if it sent one.")]


@dataclass(slots=True)
class Waiting:
    """Why an unfinished task is waiting."""

    reason: Annotated[
        WaitReason,
        Field(
            description="`rate_limit`: UPSTREAM_RATE_LIMIT. `insufficient_credits`, `upstream_unauthorized`: the upstream "
            "refuses the account. `upstream_unavailable`: no connection, 429 or 5xx. `held`: an operator stopped sending. "
            "`outcome_unknown`: sent, but without a reply; never sent again."
        ),
    ]
    until: Annotated[Time | None, Field(description="When sending is retried; null if unknown, in progress or due.")]


@dataclass(slots=True)
class Task:
    """A task."""

    id: Annotated[str, Field(examples=["task_0199f6a0c0de7a3b8c9d0e1f2a3b4c5d"])]
    status: Status
    model: Model
    type: TaskType
    input: TaskInput
    images: Annotated[list[Image], Field(description="The result images, in the upstream's order.")]
    error: Annotated[TaskError | None, Field(description="Null unless `status` is `failed`.")]
    waiting: Annotated[
        Waiting | None,
        Field(description="Why the task is waiting. Null if it only waits for its turn, and in events and webhooks."),
    ]
    upstream_task_id: str | None
    queue_position: Annotated[int | None, Field(description="Position in the queue; 1 is next. Null once sent.")]
    attempts: Annotated[int, Field(description="How many times the task was sent to the upstream.")]
    retry_of: Annotated[str | None, Field(description="ID of the task that this task retries.")]
    subject: Annotated[str | None, Field(description="Subject of the browser token that submitted the task.")]
    metadata: dict[str, str]
    webhook_url: str | None
    created_at: Time
    submitted_at: Annotated[Time | None, Field(description="When the upstream accepted the task.")]
    completed_at: Annotated[Time | None, Field(description="When the task finished.")]
    updated_at: Time


@dataclass(slots=True)
class TaskPage:
    """A page of tasks, newest first."""

    data: list[Task]
    next_cursor: NextCursor


@dataclass(slots=True)
class Callback:
    """A request to a task's callback URL and its response."""

    received_at: Time
    status: Annotated[int, Field(description="HTTP status of the response.")]
    answer: Annotated[str, Field(examples=["received", "duplicate", "task_mismatch", "unreadable_callback"])]
    body: Annotated[str, Field(description="The raw body; bytes that are not valid UTF-8 appear as \\xNN.")]


@dataclass(slots=True)
class CallbackList:
    """The last 20 callbacks for a task, newest first."""

    data: list[Callback]


def task_shape(state: TaskState, base_url: str) -> Task:
    """Return the shape of a task; `base_url` prefixes image URLs."""
    task = state.task
    error = task.error if task.status is Status.FAILED else None
    return Task(
        id=task.id,
        status=task.status,
        model=task.model,
        type=task.type,
        input=cast("TaskInput", task.input),
        images=[
            Image(
                id=image.id,
                url=image.source_url if image.state is ImageState.UNAVAILABLE else f"{base_url}{IMAGE_PATH}/{image.id}",
                source_url=image.source_url,
                state=image.state,
                reason=image.reason,
                content_type=image.content_type,
                bytes=image.bytes,
                width=image.width,
                height=image.height,
            )
            for image in state.images
        ],
        error=TaskError(error.code, error.message, error.upstream_code) if error else None,
        waiting=Waiting(state.wait.reason, time_or_null(state.wait.until)) if state.wait else None,
        upstream_task_id=task.upstream_task_id,
        queue_position=state.queue_position,
        attempts=task.attempts,
        retry_of=task.retry_of,
        subject=task.subject,
        metadata=task.metadata,
        webhook_url=task.webhook_url,
        created_at=isoformat(task.created_at),
        submitted_at=time_or_null(task.submitted_at),
        completed_at=time_or_null(task.completed_at),
        updated_at=isoformat(task.updated_at),
    )


def callback_shape(callback: ReceivedCallback) -> Callback:
    """Return the shape of a recorded callback."""
    body = callback.body.decode(errors="backslashreplace")
    return Callback(isoformat(callback.received_at), callback.status, callback.answer, body)


def time_or_null(milliseconds: int | None) -> str | None:
    """Format a time, or return None."""
    return None if milliseconds is None else isoformat(milliseconds)
