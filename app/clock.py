"""Time, as the service sees it: whole milliseconds since the Unix epoch, UTC."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)


class Clock(Protocol):
    """Where services read the time, so that tests can turn the hands."""

    def now(self) -> int:
        """Return milliseconds since the Unix epoch."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> int:
        """Return milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000


def isoformat(milliseconds: int) -> str:
    """Format a time as clients see it: RFC 3339, UTC, milliseconds, `Z`."""
    return (_NAIVE_EPOCH + timedelta(milliseconds=milliseconds)).isoformat(timespec="milliseconds") + "Z"


def from_datetime(moment: datetime) -> int:
    """Turn a moment into milliseconds since the epoch, rounded up; one without a zone is taken as UTC.

    Up, so that "at or after" and "before" such a moment hold for tasks, whose times are whole milliseconds.
    """
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return -((_EPOCH - aware) // timedelta(milliseconds=1))
