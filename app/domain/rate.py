"""A rate limit in memory: at most so many in any window."""

from collections import deque
from contextlib import suppress

_FORGET_AT_LEAST = 1_000


class RateWindow:
    """Lets each name through at most `count` times in any `seconds`; exact, whenever the window begins."""

    def __init__(self, count: int, seconds: float) -> None:
        self._count = count
        self._seconds = seconds
        self._times: dict[str, deque[float]] = {}
        """When each name was let through, the last `count` times."""
        self._forget_at = _FORGET_AT_LEAST

    def take(self, name: str, now: float) -> float:
        """Let a name through and return 0, or return after how many seconds it will be; `now` is in seconds."""
        times = self._times.get(name)
        if times is None:
            if len(self._times) >= self._forget_at:
                self._forget(now)
            times = self._times[name] = deque(maxlen=self._count)
        elif len(times) == self._count and (wait := times[0] + self._seconds - now) > 0:
            return wait
        times.append(now)
        return 0

    def give_back(self, name: str, then: float) -> None:
        """Take back that a name was let through then: nothing came of it."""
        with suppress(KeyError, ValueError):  # it lies so far back that it doesn't count any more
            self._times[name].remove(then)

    def _forget(self, now: float) -> None:
        """Drop the names of which nothing lies within a window any more."""
        self._times = {name: times for name, times in self._times.items() if times and times[-1] + self._seconds > now}
        self._forget_at = max(_FORGET_AT_LEAST, 2 * len(self._times))
