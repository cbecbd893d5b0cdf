"""API keys: what they look like and what is kept of them."""

import hashlib
import secrets
from dataclasses import dataclass

import uuid_utils

DEFAULT_PROJECT = "default"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret; times in milliseconds since the epoch."""

    id: str
    project: str
    name: str
    created_at: int
    revoked_at: int | None = None
    last_used_at: int | None = None
    """To a minute."""


def new_key_id() -> str:
    """Make a fresh key id."""
    return f"key_{uuid_utils.uuid7().hex}"


def new_secret() -> str:
    """Make a fresh API key: 256 random bits behind a prefix that scanners of leaked secrets can look for."""
    return f"nbg_{secrets.token_urlsafe(32)}"


def hash_secret(secret: str) -> str:
    """Digest an API key for storage. A plain SHA-256 is enough: there is nothing to guess in 256 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()
