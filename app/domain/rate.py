"""An in-memory sliding-window rate limiter."""

from collections import deque
from contextlib import suppress

_MIN_NAMES = 1_000


class RateWindow:
    """Admits each name at most `count` times per `seconds`, exactly."""

    def __init__(self, count: int, seconds: float) -> None:
        self._count = count
        self._seconds = seconds
        self._times: dict[str, deque[float]] = {}
        """The times of each name's last `count` admissions."""
        self._forget_at = _MIN_NAMES

    def take(self, name: str, now: float) -> float:
        """Admit a name and return 0, or the seconds remaining."""
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
        """Revoke an unused admission."""
        with suppress(KeyError, ValueError):  # already outside the window
            self._times[name].remove(then)

    def _forget(self, now: float) -> None:
        """Drop names without an admission within the window."""
        self._times = {name: times for name, times in self._times.items() if times and times[-1] + self._seconds > now}
        self._forget_at = max(_MIN_NAMES, 2 * len(self._times))
