"""A validated request for a task."""

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
    """The subject of the retried task. Otherwise the task belongs to the caller's subject."""
    identity: list[str] | None = None
    """Replaces `image_urls` in the fingerprint of a request that contains images."""
