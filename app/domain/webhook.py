"""Webhook secrets and signatures (Standard Webhooks specification)."""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from standardwebhooks import Webhook

from app.domain.delivery import Delivery

ROTATION_OVERLAP_MS = 24 * 3_600_000
"""How long the old secret still signs after a rotation."""
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSecret:
    """A project's current and previous signing secrets; times in ms."""

    project: str
    secret: str
    previous: str | None = None
    previous_until: int | None = None
    created_at: int

    def signing(self, now: int) -> list[str]:
        """List the secrets in use, the current one first."""
        if self.previous is None or self.previous_until is None or self.previous_until <= now:
            return [self.secret]
        return [self.secret, self.previous]

    def rotated(self, now: int) -> "WebhookSecret":
        """Return a new secret, with the old one still signing."""
        fresh = new_secret(self.project, now)
        return replace(fresh, previous=self.secret, previous_until=now + ROTATION_OVERLAP_MS)


def new_secret(project: str, now: int) -> WebhookSecret:
    """Make a secret of 256 random bits."""
    encoded = base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()
    return WebhookSecret(project=project, secret=f"whsec_{encoded}", created_at=now)


def headers(delivery: Delivery, body: bytes, signing: Sequence[str], now: int) -> dict[str, str]:
    """Return the headers that identify and authenticate a message."""
    at = datetime.fromtimestamp(now // 1000, UTC)
    text = body.decode()
    signatures = [Webhook(secret).sign(delivery.id, at, text) for secret in signing]
    return {
        "webhook-id": delivery.id,
        "webhook-timestamp": str(now // 1000),
        "webhook-signature": " ".join(signatures),
    }
