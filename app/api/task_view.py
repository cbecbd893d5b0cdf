"""Tasks as clients see them."""

from typing import Annotated, Any

from pydantic import BaseModel, Field

from app.clock import isoformat
from app.domain.callback import ReceivedCallback
from app.domain.image import ImageState
from app.domain.models import Model, TaskType
from app.domain.task import Status
from app.domain.verdict import ErrorCode

Time = Annotated[str, Field(examples=["2026-11-22T09:17:00.123Z"], json_schema_extra={"format": "date-time"})]


class ImageView(BaseModel):
    """One result image."""

    id: str
    url: str
    source_url: str
    state: ImageState
    reason: str | None = Field(description="Why there is no copy; null unless `state` is `unavailable`.")
    content_type: str | None
    bytes: int | None
    width: int | None
    height: int | None


class ErrorView(BaseModel):
    """Why a task failed."""

    code: ErrorCode
    message: str
    upstream_code: str | None


class TaskView(BaseModel):
    """A task."""

    id: str = Field(examples=["task_0199f6a0c0de7a3b8c9d0e1f2a3b4c5d"])
    status: Status
    model: Model
    type: TaskType
    input: dict[str, Any]
    images: list[ImageView]
    error: ErrorView | None
    upstream_task_id: str | None
    queue_position: int | None = Field(description="While queued: 1 is next.")
    attempts: int
    retry_of: str | None
    subject: str | None
    metadata: dict[str, str]
    webhook_url: str | None
    created_at: Time
    submitted_at: Time | None
    completed_at: Time | None
    updated_at: Time


class TaskPage(BaseModel):
    """A page of tasks, newest first."""

    data: list[TaskView]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page; null on the last.")


class CallbackView(BaseModel):
    """One request that arrived at a task's callback address, and how it was answered."""

    received_at: Time
    status: int = Field(description="The HTTP status answered.")
    answer: str = Field(description="received, duplicate, task_mismatch or unreadable_callback")
    body: str = Field(description="The raw body; bytes that are not UTF-8 are shown as \\xNN.")


class CallbackList(BaseModel):
    """What arrived for a task, newest first; the last 20 are kept."""

    data: list[CallbackView]


def callback_view(callback: ReceivedCallback) -> dict[str, Any]:
    """Write a kept callback as `CallbackView`."""
    return {
        "received_at": isoformat(callback.received_at),
        "status": callback.status,
        "answer": callback.answer,
        "body": callback.body.decode(errors="backslashreplace"),
    }
