"""Upstream reports about tasks, independent of their format."""

import msgspec

from app.domain.words import Word


class ErrorCode(Word):
    """Machine-readable reasons for failure."""

    INVALID_REQUEST = "invalid_request"
    CONTENT_POLICY = "content_policy"
    GENERATION_FAILED = "generation_failed"
    UPSTREAM_ERROR = "upstream_error"
    UPSTREAM_UNAUTHORIZED = "upstream_unauthorized"
    INSUFFICIENT_CREDITS = "insufficient_credits"
    SUBMISSION_UNKNOWN = "submission_unknown"
    TIMEOUT = "timeout"
    RESULT_UNREADABLE = "result_unreadable"


GUESSES = frozenset({ErrorCode.SUBMISSION_UNKNOWN, ErrorCode.TIMEOUT, ErrorCode.RESULT_UNREADABLE})
"""Failures inferred from silence or an unreadable result; a later verdict replaces them."""


class TaskError(msgspec.Struct, frozen=True):
    """A failure, with our code and the vendor's."""

    code: ErrorCode
    message: str
    upstream_code: str | None = None


class Succeeded(msgspec.Struct, frozen=True):
    """The upstream generated at least one image."""

    upstream_task_id: str
    image_urls: tuple[str, ...]


class Failed(msgspec.Struct, frozen=True):
    """The task failed upstream; the message may lack the id."""

    upstream_task_id: str | None
    error: TaskError


class Generating(msgspec.Struct, frozen=True):
    """The upstream is still working on the task."""

    upstream_task_id: str | None


class Unreadable(msgspec.Struct, frozen=True):
    """A message without usable content.

    `is_success` means that it claims a success.
    """

    reason: str
    upstream_task_id: str | None = None
    is_success: bool = False


class Unanswered(msgspec.Struct, frozen=True):
    """A poll that found the upstream unhealthy.

    `retry_after` is the upstream's, in milliseconds. `is_clear` means that one reply like this is enough to pause
    polling.
    """

    reason: str
    retry_after: int | None = None
    is_clear: bool = False


Verdict = Succeeded | Failed
Report = Succeeded | Failed | Generating | Unreadable
"""The content of one upstream message about a task."""
