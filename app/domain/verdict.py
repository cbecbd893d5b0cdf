"""What the upstream says about a task: the words of the vendor, translated once."""

from dataclasses import dataclass
from enum import StrEnum


class ErrorCode(StrEnum):
    """Why a task failed, as clients see it in `error.code`."""

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


@dataclass(frozen=True, slots=True)
class TaskError:
    """A failure: our code, the vendor's words, the vendor's own code."""

    code: ErrorCode
    message: str
    upstream_code: str | None = None


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The upstream made at least one image."""

    upstream_task_id: str
    image_urls: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The upstream gave up on the task. The id is not always repeated in the notice."""

    upstream_task_id: str | None
    error: TaskError


@dataclass(frozen=True, slots=True)
class Generating:
    """The upstream knows the task and has no verdict yet."""

    upstream_task_id: str | None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message that states no verdict we can act on; `reason` says what is wrong with it."""

    reason: str
    upstream_task_id: str | None = None


Verdict = Succeeded | Failed
Report = Succeeded | Failed | Generating | Unreadable
"""What one message of the upstream about a task amounts to."""
