"""Limits the memory for request bodies that contain images."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.errors import ServiceUnavailable

# The raw body, its text, and the decoded images.
_COPIES = 3


class MemoryBudget:
    """Limits the total memory used by large request bodies."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.taken = 0

    @contextmanager
    def permit(self, limit: int) -> Iterator["MemoryPermit"]:
        """Permit a body of `limit` bytes, if memory allows."""
        permit = MemoryPermit(self, limit)
        try:
            yield permit
        finally:
            self.taken -= permit.taken


class MemoryPermit:
    """The memory that one request uses."""

    def __init__(self, budget: MemoryBudget, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._budget = budget

    def take(self, count: int) -> None:
        """Take memory for `count` more bytes; raises `ServiceUnavailable`."""
        if self._budget.taken + count * _COPIES > self._budget.max_bytes:
            raise ServiceUnavailable("Too many large requests are in progress; try again later.")
        self.taken += count * _COPIES
        self._budget.taken += count * _COPIES
