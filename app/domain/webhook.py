"""Webhooks to clients: the message, and its signature by the Standard Webhooks specification."""

import base64
import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from standardwebhooks import Webhook

from app.clock import isoformat
from app.domain.delivery import Delivery
from app.domain.event import task_at
from app.domain.image import Image
from app.domain.task import Status, Task
from app.domain.task_state import TaskState, task_view

ROTATION_OVERLAP = 24 * 3_600_000
"""For how many milliseconds after a rotation messages are signed by the old secret as well."""
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSecret:
    """A project's signing secret, with the one before it as long as that signs too; times in milliseconds."""

    project: str
    secret: str
    previous: str | None = None
    previous_until: int | None = None
    created_at: int

    def signing(self, now: int) -> list[str]:
        """List the secrets that sign at this time, the current one first."""
        if self.previous is None or self.previous_until is None or self.previous_until <= now:
            return [self.secret]
        return [self.secret, self.previous]

    def rotated(self, now: int) -> "WebhookSecret":
        """Return it with a fresh secret; the one until now goes on signing for a day."""
        fresh = new_secret(self.project, now)
        return replace(fresh, previous=self.secret, previous_until=now + ROTATION_OVERLAP)


def new_secret(project: str, now: int) -> WebhookSecret:
    """Make a project's first secret: 256 random bits, spelled as the specification says."""
    encoded = base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
    return WebhookSecret(project=project, secret=f"whsec_{encoded}", created_at=now)


def message(delivery: Delivery, task: Task, images: Sequence[Image], base_url: str) -> bytes:
    """Write the body: the event with the task as it was then, and its images as they are known now."""
    then = task_at(task, delivery.snapshot)
    shown = list(images) if then.status is Status.SUCCEEDED else []
    body = {
        "type": delivery.event,
        "timestamp": isoformat(delivery.created_at),
        "data": task_view(TaskState(then, shown, None), base_url),
    }
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def headers(delivery: Delivery, body: bytes, signing: Sequence[str], now: int) -> dict[str, str]:
    """Return the headers by which a receiver knows the message again (its id) and knows that it is ours."""
    at = datetime.fromtimestamp(now // 1000, UTC)
    text = body.decode()
    signatures = [Webhook(secret).sign(delivery.id, at, text) for secret in signing]
    return {
        "webhook-id": delivery.id,
        "webhook-timestamp": str(now // 1000),
        "webhook-signature": " ".join(signatures),
    }
