"""Idempotency keys: one task, however often the request is sent."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

LIFETIME_MS = 24 * 3_600_000
"""How long a key is kept."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key as its owner sees it; `subject` is empty for API keys."""

    project: str
    subject: str
    key: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """The task of a key, and the fingerprint of the request that created it."""

    key: IdempotencyKey
    fingerprint: str
    task_id: str


def fingerprint(request: dict[str, Any]) -> str:
    """Hash a request's content (JSON), to detect a key reused for another request."""
    canonical = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
