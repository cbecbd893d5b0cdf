"""Validated task requests."""

from dataclasses import dataclass
from typing import Any

from app.domain.models import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A validated request for a task."""

    model: Model
    input: dict[str, Any]
    metadata: dict[str, str]
    webhook_url: str | None = None
    retry_of: str | None = None
    subject: str | None = None
    """The retried task's subject; otherwise the caller's subject applies."""
    identity: list[str] | None = None
    """Replaces `image_urls` in the fingerprint of requests with inline images."""
