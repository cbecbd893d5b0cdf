"""Room in memory for bodies that carry pictures in themselves."""

from types import TracebackType
from typing import Self

from app.errors import ServiceUnavailable

# The body as it came, its text, and what is decoded of it.
_COPIES = 3


class MemoryBudget:
    """Bounds what the large bodies of all requests take together; `most` in bytes."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.taken = 0

    def room(self, limit: int) -> "MemoryPermit":
        """Give one request the right to a body of up to `limit` bytes, as far as there is room when it comes."""
        return MemoryPermit(self, limit)


class MemoryPermit:
    """What one request takes, given back at the end of its block."""

    __slots__ = ("_bodies", "_taken", "limit")

    def __init__(self, bodies: MemoryBudget, limit: int) -> None:
        self.limit = limit
        self._bodies = bodies
        self._taken = 0

    def take(self, count: int) -> None:
        """Take room for so many bytes more of the body; raises `ServiceUnavailable` if there is none."""
        if self._bodies.taken + count * _COPIES > self._bodies.most:
            raise ServiceUnavailable("Many large requests are arriving right now.")
        self._taken += count * _COPIES
        self._bodies.taken += count * _COPIES

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bodies.taken -= self._taken
        self._taken = 0
