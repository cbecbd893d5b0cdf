"""Idempotency keys: one request, one task, however often it is sent."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

LIFETIME_MS = 24 * 3_600_000
"""How long a key is kept, in milliseconds."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key as its owner sees it; `subject` is empty for API keys."""

    project: str
    subject: str
    key: str


@dataclass(frozen=True, slots=True)
class Reservation:
    """The task for which a key stands, and the fingerprint of the request that brought it."""

    key: IdempotencyKey
    fingerprint: str
    task_id: str


def fingerprint(request: dict[str, Any]) -> str:
    """Digest a request's content (JSON values), so that the same key with another content is noticed."""
    canonical = json.dumps(request, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
