"""How long to wait for what: the operator's settings as the task's rules need them, in milliseconds."""

from dataclasses import dataclass

_POLL_GROWTH = 1.5
_MIN_POLL_CAP = 30_000
_MAX_SUBMIT_PAUSE = 60_000
_LATE_POLLS_END = 24 * 3_600_000
_MIN_LATE_PAUSE, _MAX_LATE_PAUSE = 60_000, 3_600_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Durations in milliseconds; `submit_tries` is a count."""

    queue_timeout: int
    task_timeout: int
    poll_after: int
    submit_tries: int
    hold_retry: int
    upstream_timeout: int
    expedite_pause: int = 2_000

    def submit_pause(self, failures: int, jitter: float) -> int:
        """Pause after the n-th passing failure: at most 1 s, doubling, at most 60 s; jitter takes up to half off."""
        full = min(1_000 << min(failures - 1, 16), _MAX_SUBMIT_PAUSE)
        return round(full * (1 - jitter / 2))

    def poll_pause(self, asks: int) -> int:
        """Pause after the n-th poll about a silent task: 1.5 times the last one, up to a cap."""
        cap = max(_MIN_POLL_CAP, self.poll_after)
        return round(min(self.poll_after * _POLL_GROWTH ** min(asks, 32), cap))

    @staticmethod
    def late_poll(since: int, now: int) -> int | None:
        """When to poll again about a task that timed out: less and less often, for a day after it was sent."""
        if now - since >= _LATE_POLLS_END:
            return None
        return now + min(max((now - since) // 4, _MIN_LATE_PAUSE), _MAX_LATE_PAUSE)
