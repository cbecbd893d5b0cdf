"""Times as whole milliseconds since the Unix epoch."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Where services read the time; tests pass one that they control."""

    def now(self) -> int:
        """Return milliseconds since the Unix epoch."""
        ...


class SystemClock:
    """The system clock."""

    def now(self) -> int:
        """Return milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000


def isoformat(milliseconds: int) -> str:
    """Format a time as RFC 3339: UTC, with milliseconds and `Z`."""
    return (_EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_datetime(moment: datetime) -> int:
    """Convert to milliseconds since the epoch; no time zone means UTC.

    Rounds up, so that comparing with whole milliseconds by "at or after" and "before" gives the exact result.
    """
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return -((_EPOCH - aware) // timedelta(milliseconds=1))
