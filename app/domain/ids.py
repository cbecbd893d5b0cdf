"""Ids that begin with the time."""

import secrets

import uuid_utils

_TIME_BITS = 48
_OTHER_BITS = 128 - _TIME_BITS
_MAX_STEP = 1 << 32
MAX_TIME = (1 << _TIME_BITS) - 1


class TimeOrderedIds:
    """Generates UUIDs version 7 (RFC 9562) for a given time.

    They increase even within a millisecond. The library alone would use the system clock, which may differ from the
    clock that all replicas share.
    """

    def __init__(self) -> None:
        self._last = 0

    def next(self, now: int) -> str:
        """Return 32 hexadecimal digits; `now` in milliseconds."""
        new = uuid_utils.uuid7(nanoseconds=now * 1_000_000).int
        if new >> _OTHER_BITS == self._last >> _OTHER_BITS and new <= self._last:
            new = self._last + 1 + secrets.randbelow(_MAX_STEP)
        self._last = new
        return f"{new:032x}"
