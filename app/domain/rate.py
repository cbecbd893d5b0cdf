"""A rate limit in memory: at most so many in any window."""

from collections import deque


class RateWindow:
    """Lets each name through at most `count` times in any `seconds`; exact, whenever the window begins."""

    def __init__(self, count: int, seconds: float) -> None:
        self._count = count
        self._seconds = seconds
        self._times: dict[str, deque[float]] = {}
        """When each name was let through, the last `count` times."""

    def take(self, name: str, now: float) -> float:
        """Let a name through and return 0, or return after how many seconds it will be; `now` is in seconds."""
        times = self._times.get(name)
        if times is None:
            self._forget(now)
            times = self._times[name] = deque(maxlen=self._count)
        elif len(times) == self._count and (wait := times[0] + self._seconds - now) > 0:
            return wait
        times.append(now)
        return 0

    def _forget(self, now: float) -> None:
        """Drop the names of which nothing lies within a window any more."""
        for name in [name for name, times in self._times.items() if times[-1] + self._seconds <= now]:
            del self._times[name]
