"""Timeouts and pauses of a task's life, from the settings, in milliseconds."""

from dataclasses import dataclass

_POLL_GROWTH = 1.5
_MIN_POLL_CAP_MS = 30_000
_MAX_SUBMIT_PAUSE_MS = 60_000
_LATE_POLLS_END_MS = 24 * 3_600_000
_MIN_LATE_PAUSE_MS, _MAX_LATE_PAUSE_MS = 60_000, 3_600_000


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
        """Return the pause after the n-th temporary failure: 1 s, doubling up to 60 s, minus up to half as jitter."""
        full = min(1_000 << min(failures - 1, 16), _MAX_SUBMIT_PAUSE_MS)
        return round(full * (1 - jitter / 2))

    def poll_pause(self, asks: int) -> int:
        """Return the pause after the n-th poll: 1.5 times the last one, up to a cap."""
        cap = max(_MIN_POLL_CAP_MS, self.poll_after)
        return round(min(self.poll_after * _POLL_GROWTH ** min(asks, 32), cap))

    @staticmethod
    def late_poll(since: int, now: int) -> int | None:
        """Return when to poll again about a task that timed out: less and less often, for a day."""
        if now - since >= _LATE_POLLS_END_MS:
            return None
        return now + min(max((now - since) // 4, _MIN_LATE_PAUSE_MS), _MAX_LATE_PAUSE_MS)
