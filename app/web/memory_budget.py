"""Room in memory for bodies that contain images."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import ServiceUnavailable

# The body as it came, its text, and what is decoded of it.
_COPIES = 3


class MemoryBudget:
    """Limits what the large bodies of all requests take together; `most` in bytes."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0

    @contextmanager
    def permit(self, limit: int) -> Iterator["MemoryPermit"]:
        """Allow one request a body of up to `limit` bytes, as far as there is room when it arrives."""
        permit = MemoryPermit(self, limit)
        try:
            yield permit
        finally:
            self.taken -= permit.taken


class MemoryPermit:
    """What one request takes."""

    def __init__(self, bodies: MemoryBudget, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._bodies = bodies

    def take(self, count: int) -> None:
        """Take room for `count` more bytes of the body; raises `ServiceUnavailable` if there is none."""
        if self._bodies.taken + count * _COPIES > self._bodies.most:
            raise ServiceUnavailable("Many large requests are arriving right now.")
        self.taken += count * _COPIES
        self._bodies.taken += count * _COPIES
