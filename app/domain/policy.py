"""Timeouts and pauses in a task's life."""

from dataclasses import dataclass

_POLL_GROWTH = 1.5
_MIN_POLL_CAP_MS = 30_000
MAX_SUBMIT_PAUSE_MS = 60_000
MAX_RETRY_AFTER_MS = 300_000
"""The longest `Retry-After` to respect, as the upstream may recover earlier."""
FIRST_PAUSE_MS, MAX_PAUSE_MS = 2_000, 60_000
"""The shortest and the longest pause while the upstream is unhealthy."""
_LATE_POLLS_END_MS = 24 * 3_600_000
_MIN_LATE_PAUSE_MS, MAX_LATE_PAUSE_MS = 60_000, 3_600_000


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
    first_pause: int = FIRST_PAUSE_MS
    max_pause: int = MAX_PAUSE_MS

    @property
    def longest_hold(self) -> int:
        """The longest time between two probes of the account."""
        return max(self.hold_retry, 2 * self.upstream_timeout, self.max_pause, MAX_RETRY_AFTER_MS)

    @property
    def poll_cap(self) -> int:
        """The longest pause between two polls about an unfinished task."""
        return max(_MIN_POLL_CAP_MS, self.poll_after)

    def unwell_pause(self, number: int, retry_after: int | None = None) -> int:
        """Return the n-th pause while the upstream is unhealthy.

        Pauses double up to a maximum, unless the upstream asks for more.
        """
        growing = min(self.first_pause << min(number - 1, 16), self.max_pause)
        return max(growing, min(retry_after or 0, MAX_RETRY_AFTER_MS))

    def submit_pause(self, failures: int, jitter: float) -> int:
        """Return a task's pause after its n-th failure.

        It doubles from 1 s to 60 s; jitter shortens it by up to half.
        """
        full = min(1_000 << min(failures - 1, 16), MAX_SUBMIT_PAUSE_MS)
        return round(full * (1 - jitter / 2))

    def poll_pause(self, asks: int) -> int:
        """Return the pause after `asks` polls.

        Each is 1.5 times the previous one, up to a cap.
        """
        return round(min(self.poll_after * _POLL_GROWTH ** min(asks, 32), self.poll_cap))

    @staticmethod
    def late_poll(since: int, now: int) -> int | None:
        """Return when to poll again about a timed-out task.

        Polls become less frequent and stop after a day (None).
        """
        if now - since >= _LATE_POLLS_END_MS:
            return None
        return now + min(max((now - since) // 4, _MIN_LATE_PAUSE_MS), MAX_LATE_PAUSE_MS)
