"""Controls how fast this process polls."""

import time
from collections.abc import Callable

import structlog

from app.domain.policy import Policy
from app.domain.verdict import Report, Unanswered
from app.upstream.call_window import CallWindow

CONCURRENT_POLLS = 32
_PER_SECOND = 20
# With 10,000 tasks, polls fall about ten seconds behind before the rate is high enough.
_MAX_PER_SECOND = 400
_TOLERATED = 2
_log = structlog.get_logger(__name__)


class PollPace:
    """Limits concurrent polls and polls per second.

    The rate grows with the delay: 20 per second, and 20 more for each second that polls are late. Polling pauses after
    three polls in a row without an answer, or after one reply that clearly asks for it. Then one poll at a time tries
    again.
    """

    def __init__(self, policy: Policy, timer: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._timer = timer
        self._window = CallWindow(CONCURRENT_POLLS, timer)
        self._failures = 0
        self._closed_until = 0.0
        self._is_probing = False
        self._per_second = float(_PER_SECOND)
        self._saved = float(_PER_SECOND)
        self._saved_at = timer()

    @property
    def allowance(self) -> int:
        """How many polls may begin now."""
        now = self._timer()
        if now < self._closed_until:
            return 0
        self._saved = min(self._saved + (now - self._saved_at) * self._per_second, self._per_second)
        self._saved_at = now
        if self._is_closed:
            return 0 if self._window.in_flight else 1
        return min(self._window.room, int(self._saved))

    def begin(self, polls: int, delay_seconds: float) -> None:
        """Count polls that begin, `delay_seconds` after they were due."""
        self._per_second = min(_PER_SECOND * (1 + max(delay_seconds, 0.0)), float(_MAX_PER_SECOND))
        self._saved = max(self._saved - polls, 0.0)
        self._window.begin(polls)
        self._is_probing = self._is_closed

    def end(self, report: Report | Unanswered | None) -> None:
        """Count the end of a poll; None means no result."""
        was_probe, self._is_probing = self._is_probing, False
        self._window.end(answered=not isinstance(report, Unanswered))
        if isinstance(report, Unanswered):
            self._pause(report, was_probe=was_probe)
        elif report is not None and self._failures:
            if self._is_closed:
                _log.warning("polling", state="ok")
            self._failures, self._closed_until = 0, 0.0

    @property
    def _is_closed(self) -> bool:
        return self._failures > _TOLERATED

    def _pause(self, report: Unanswered, *, was_probe: bool) -> None:
        was_closed = self._is_closed
        if was_closed and not was_probe:
            return  # sent before the pause
        self._failures = max(self._failures + 1, _TOLERATED + 1 if report.is_clear else 0)
        if self._is_closed:
            pause = self._policy.unwell_pause(self._failures - _TOLERATED, report.retry_after) / 1000
            self._closed_until = self._timer() + pause
            if not was_closed:
                _log.warning("polling", state="paused", reason=report.reason, seconds=pause)
