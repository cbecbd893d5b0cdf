"""API keys and their hashes."""

import hashlib
import secrets
from dataclasses import dataclass

import uuid_utils

DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret; times are epoch milliseconds."""

    id: str
    project: str
    name: str
    created_at: int
    revoked_at: int | None = None
    last_used_at: int | None = None
    """Accurate to a minute."""


def new_key_id() -> str:
    """Make a new key id."""
    return f"key_{uuid_utils.uuid7().hex}"


def new_secret() -> str:
    """Make a new API key of 256 random bits."""
    # The prefix lets secret scanners find leaked keys.
    return f"nbg_{secrets.token_urlsafe(32)}"


def hash_secret(secret: str) -> str:
    """Hash an API key for storage."""
    # Plain SHA-256 is enough for 256 random bits.
    return hashlib.sha256(secret.encode()).hexdigest()
