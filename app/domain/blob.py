"""Where the bytes of a picture lie: under their own hash, so that the same picture is kept once."""

import re

THUMBNAIL_WIDTHS = (256, 512)
"""Widths in pixels that thumbnails are made in."""
EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp", "image/gif": "gif"}
"""How files of these types are named."""
FOLDERS = tuple(f"{number:02x}" for number in range(256))
"""The folders of a store that pictures lie in."""
_KEY = re.compile(r"([0-9a-f]{2})/(\1[0-9a-f]{62})(\.w[0-9]+\.webp)?")


def original_key(sha256: str) -> str:
    """Return the storage key of a picture; `sha256` in lower-case hex."""
    return f"{sha256[:2]}/{sha256}"


def thumbnail_key(sha256: str, width: int) -> str:
    """Return the storage key of a picture's thumbnail."""
    return f"{original_key(sha256)}.w{width}.webp"


def keys_of(sha256: str) -> list[str]:
    """List all keys that a picture may have, thumbnails first: while the original is there, so is its owner."""
    return [*(thumbnail_key(sha256, width) for width in THUMBNAIL_WIDTHS), original_key(sha256)]


def sha256_of(key: str) -> str | None:
    """Return the hash of the picture that a storage key belongs to; None for a key that is not ours."""
    match = _KEY.fullmatch(key)
    return match[2] if match else None
