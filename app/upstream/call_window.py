"""Limits how many calls of one kind are in flight."""

import time
from collections.abc import Callable

_FEW = 4
# One failure may be about one call. The third in a row is an outage, as for the account.
_TOLERATED = 2
_SILENT_SECONDS = 2.0


class CallWindow:
    """Starts small, and allows one more call per answer.

    Calls in flight when the upstream stops answering may be lost. So only a few may begin once there has been no answer
    for two seconds, or for twice the duration of the last answered call if that is longer, or after three failures in a
    row.
    """

    def __init__(self, most: int, timer: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._timer = timer
        self._size = _FEW
        self._in_flight = 0
        self._failures = 0
        self._answered_at = 0.0
        self._silent_after = _SILENT_SECONDS

    @property
    def in_flight(self) -> int:
        """How many calls are in flight."""
        return self._in_flight

    @property
    def room(self) -> int:
        """How many more calls may begin now."""
        if self._timer() - self._answered_at > self._silent_after:
            self._size = _FEW
        return max(self._size - self._in_flight, 0)

    def begin(self, calls: int) -> None:
        """Count calls that begin."""
        self._in_flight += calls

    def end(self, *, answered: bool, seconds: float = 0.0) -> None:
        """Count the end of a call that took `seconds`."""
        self._in_flight -= 1
        self._failures = 0 if answered else self._failures + 1
        if answered:
            self._answered_at = self._timer()
            self._silent_after = max(_SILENT_SECONDS, 2 * seconds)
            self._size = min(self._size + 1, max(self._most, _FEW))
        elif self._failures > _TOLERATED:
            self._size = _FEW
