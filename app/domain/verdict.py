"""What the upstream says about a task: the words of the vendor, translated once."""

from enum import StrEnum

import msgspec


class ErrorCode(StrEnum):
    """Why a task failed, for programs."""

    INVALID_REQUEST = "invalid_request"
    CONTENT_POLICY = "content_policy"
    GENERATION_FAILED = "generation_failed"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_UNAUTHORIZED = "upstream_unauthorized"
    INSUFFICIENT_CREDITS = "insufficient_credits"
    SUBMISSION_UNKNOWN = "submission_unknown"
    TIMEOUT = "timeout"


GUESSES = frozenset({ErrorCode.SUBMISSION_UNKNOWN, ErrorCode.TIMEOUT})
"""Failures that are our own conclusion from silence, and so yield to a later verdict."""


class TaskError(msgspec.Struct, frozen=True):
    """A failure: our code, the vendor's words, the vendor's own code."""

    code: ErrorCode
    message: str
    upstream_code: str | None = None


class Succeeded(msgspec.Struct, frozen=True):
    """The upstream made at least one image."""

    upstream_task_id: str
    image_urls: tuple[str, ...]


class Failed(msgspec.Struct, frozen=True):
    """The upstream gave up on the task. The id is not always repeated in the notice."""

    upstream_task_id: str | None
    error: TaskError


class Generating(msgspec.Struct, frozen=True):
    """The upstream knows the task and has no verdict yet."""

    upstream_task_id: str | None


class Unreadable(msgspec.Struct, frozen=True):
    """A message that states no verdict we can act on; `reason` says what is wrong with it."""

    reason: str
    upstream_task_id: str | None = None


Verdict = Succeeded | Failed
Report = Succeeded | Failed | Generating | Unreadable
"""What one message of the upstream about a task amounts to."""
