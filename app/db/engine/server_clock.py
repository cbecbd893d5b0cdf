"""The database server's clock, which all replicas share."""

import time
from collections.abc import Callable

import structlog

from app.clock import Clock, SystemClock

MAX_SKEW_MS = 30_000
"""A larger difference between the clocks is reported."""
_log = structlog.get_logger(__name__)


class ServerClock:
    """The PostgreSQL server's time, in milliseconds since the Unix epoch.

    The server's time decides about rows: replicas whose own clocks differ would fail each other's tasks. The clock is
    read when a connection is opened or tested, which needs a round trip anyway. Between two readings, this machine's
    monotonic clock counts on. So `now` costs nothing, and setting this machine's clock changes nothing. Before the
    first reading, `now` is the system clock.
    """

    def __init__(self, system: Clock | None = None, monotonic_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._system = system or SystemClock()
        self._monotonic_ns = monotonic_ns
        self._offset: int | None = None
        """The server's time minus the monotonic clock."""
        self._set_at = 0
        self._is_skewed = False

    def now(self) -> int:
        """Return the server's time."""
        return self._system.now() if self._offset is None else self.monotonic() + self._offset

    @property
    def age_ms(self) -> float:
        """Milliseconds since the last reading; infinite before the first."""
        return float("inf") if self._offset is None else self.monotonic() - self._set_at

    @property
    def skew_ms(self) -> int:
        """How far the system clock is ahead, in milliseconds."""
        return self._system.now() - self.now()

    def set(self, server_time: int, *, asked_at: int) -> None:
        """Apply a reading that was requested at `asked_at` (monotonic).

        The server's time is now at least `server_time`, and at most that plus the whole round trip. A time within these
        bounds is kept, so slow replies don't move the clock back and forth.
        """
        self._set_at = self.monotonic()
        earliest, latest = server_time - self._set_at, server_time - asked_at
        self._offset = earliest if self._offset is None else min(max(self._offset, earliest), latest)
        is_skewed = abs(self.skew_ms) > MAX_SKEW_MS
        if is_skewed and not self._is_skewed:
            _log.warning("clock_skewed", ahead_seconds=round(self.skew_ms / 1000))
        self._is_skewed = is_skewed

    def monotonic(self) -> int:
        """Return this machine's monotonic clock, in milliseconds."""
        return self._monotonic_ns() // 1_000_000
