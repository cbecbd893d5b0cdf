"""A store of image bytes by key."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple


class Missing(Exception):
    """There is nothing under this key."""


class StoredFile(NamedTuple):
    """One file of the store; `modified` in milliseconds since the epoch."""

    key: str
    bytes: int
    modified: int


class ImageStore:
    """Keeps bytes under keys. Every method raises `StorageUnavailable` when the store can't do it now."""

    async def put(self, key: str, path: Path) -> None:
        """Store a file's bytes, all or nothing; durable when this returns. What was under the key is replaced."""
        raise NotImplementedError

    async def put_bytes(self, key: str, content: bytes) -> None:
        """Store a few bytes, as `put` does."""
        raise NotImplementedError

    async def open(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Begin to read from `start` up to `end` (not included; None: all); raises `Missing`."""
        raise NotImplementedError

    async def size(self, key: str) -> int:
        """Tell how many bytes are under a key; raises `Missing`."""
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        """Remove what is under a key; fine if nothing is."""
        raise NotImplementedError

    def list(self, after: str | None = None) -> AsyncIterator[list[StoredFile]]:
        """List what is stored in batches, keys above `after`; other people's files in the same place included."""
        raise NotImplementedError

    async def check(self) -> None:
        """See whether the store can be written to; raises `ConfigurationError` for what waiting won't mend."""
        raise NotImplementedError


def open_store(storage_url: str | None, data_dir: Path) -> ImageStore:
    """Open a directory (default: `images` in `data_dir`) or `s3://bucket/prefix`."""
    raise NotImplementedError
