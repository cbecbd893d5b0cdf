"""How long to wait for what: the operator's settings as the task's rules need them, in milliseconds."""

from dataclasses import dataclass

_QUESTION_GROWTH = 1.5
_MIN_QUESTION_CAP = 30_000
_MAX_SUBMIT_PAUSE = 60_000
_LATE_QUESTIONS_END = 24 * 3_600_000
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
    hasten_pause: int = 2_000

    def submit_pause(self, failures: int, jitter: float) -> int:
        """Pause after the n-th passing failure: at most 1 s, doubling, at most 60 s; jitter takes up to half off."""
        full = min(1_000 << min(failures - 1, 16), _MAX_SUBMIT_PAUSE)
        return round(full * (1 - jitter / 2))

    def question_pause(self, asks: int) -> int:
        """Pause after the n-th question about a silent task: half as long again each time, up to a cap."""
        cap = max(_MIN_QUESTION_CAP, self.poll_after)
        return round(min(self.poll_after * _QUESTION_GROWTH ** min(asks, 32), cap))

    @staticmethod
    def late_question(since: int, now: int) -> int | None:
        """When to ask again about a task given up as timed out: ever more rarely, for a day after it was sent."""
        if now - since >= _LATE_QUESTIONS_END:
            return None
        return now + min(max((now - since) // 4, _MIN_LATE_PAUSE), _MAX_LATE_PAUSE)
