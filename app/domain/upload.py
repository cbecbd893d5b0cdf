"""Uploaded input images, public until expiry at unguessable URLs."""

import re
import secrets
from collections.abc import Sequence

import msgspec

UPLOAD_PATH = "/v1/uploads"
UPLOAD_ID = re.compile(r"upl_[0-9a-f]{32}")
REMEMBERED_MS = 7 * 86_400_000
"""How long an expired upload is distinguished from an unknown one."""


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """One upload; times are in milliseconds.

    `hash` is None once its file is released.
    """

    id: str
    project: str
    subject: str | None = None
    hash: str | None
    content_type: str
    bytes: int
    width: int
    height: int
    created_at: int
    expires_at: int


def new_upload_id() -> str:
    """Make an id of 128 random bits."""
    return f"upl_{secrets.token_hex(16)}"


def url_of(upload_id: str, base_url: str) -> str:
    """Return the URL of an upload."""
    return f"{base_url}{UPLOAD_PATH}/{upload_id}"


def named_in(urls: Sequence[str], base_url: str) -> dict[int, str]:
    """Return the upload ids among URLs, by position."""
    start = f"{base_url}{UPLOAD_PATH}/"
    found = {position: url.removeprefix(start) for position, url in enumerate(urls) if url.startswith(start)}
    return {position: upload_id for position, upload_id in found.items() if UPLOAD_ID.fullmatch(upload_id)}
