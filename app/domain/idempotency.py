"""Idempotency keys: a repeated request creates only one task."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

LIFETIME_MS = 24 * 3_600_000
"""How long a key is kept."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """An idempotency key within its owner's scope."""

    project: str
    subject: str  # empty for API keys
    key: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """A key's task, and the fingerprint of its first request."""

    key: IdempotencyKey
    fingerprint: str
    task_id: str


def fingerprint(request: dict[str, Any]) -> str:
    """Hash a request, to detect reuse for a different request."""
    canonical = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
