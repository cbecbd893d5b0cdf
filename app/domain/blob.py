"""Storage keys of image files, named by hash for deduplication."""

import re

THUMBNAIL_WIDTHS = (256, 512)
"""Widths of thumbnails in pixels."""
EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif"}
"""File name extensions by content type."""
FOLDERS = tuple(f"{number:02x}" for number in range(256))
"""The image folders of a store."""
_KEY = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{62})(\.w[0-9]+\.webp)?")


def original_key(sha256: str) -> str:
    """Return an image's storage key; `sha256` is lowercase hex."""
    return f"{sha256[:2]}/{sha256}"


def thumbnail_key(sha256: str, width: int) -> str:
    """Return a thumbnail's storage key."""
    return f"{original_key(sha256)}.w{width}.webp"


def keys_of(sha256: str) -> list[str]:
    """List an image's possible keys; delete them in this order."""
    return [*(thumbnail_key(sha256, width) for width in THUMBNAIL_WIDTHS), original_key(sha256)]


def sha256_of(key: str) -> str | None:
    """Return the hash in a storage key; None if foreign."""
    match = _KEY.fullmatch(key)
    return match[2] if match else None
