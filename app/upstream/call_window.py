"""How many calls of one kind may be in flight."""

import time
from collections.abc import Callable

_FEW = 4
_SILENT_SECONDS = 2.0


class CallWindow:
    """Few calls at first, one more with each answer.

    They are few again once nothing was answered for two seconds. What is in flight when the upstream stops answering may be lost. So a queue is not sent to an upstream that has not
    just answered.
    """

    def __init__(self, most: int, timer: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._timer = timer
        self._size = _FEW
        self._in_flight = 0
        self._heard_at = 0.0

    @property
    def in_flight(self) -> int:
        """How many calls are in flight."""
        return self._in_flight

    @property
    def room(self) -> int:
        """How many more calls may begin now."""
        if self._timer() - self._heard_at > _SILENT_SECONDS:
            self._size = _FEW
        return max(self._size - self._in_flight, 0)

    def begin(self, calls: int) -> None:
        """Count calls that begin."""
        self._in_flight += calls

    def end(self, *, answered: bool) -> None:
        """Count the end of a call, `answered` or not."""
        self._in_flight -= 1
        if answered:
            self._heard_at = self._timer()
            self._size = min(self._size + 1, max(self._most, _FEW))
        else:
            self._size = _FEW
