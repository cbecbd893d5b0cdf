"""Quotas: how many tasks and uploads may be made, by a token in its life, and tasks by a project in a day."""

from dataclasses import dataclass

from app.domain.browser_token import BrowserToken
from app.domain.models import SPECS
from app.errors import DailyBudgetExceeded, GatewayError, TokenExhausted

_DAY = 86_400_000
# Other replicas' clocks may be a little behind.
_KEPT_AFTER = 3_600_000
_PICTURES_PER_TASK = max(spec.max_input_images for spec in SPECS.values())


@dataclass(frozen=True, slots=True)
class Quota:
    """A number of tasks, or of `what` else, that nothing may exceed until `ends_at` (milliseconds).

    What was made of a project's tasks since `counts_since` counts although nobody counted when they were made.
    """

    name: str
    limit: int
    ends_at: int
    project: str | None = None
    counts_since: int = 0
    what: str = "tasks"

    @property
    def kept_until(self) -> int:
        """When its count may be forgotten."""
        return self.ends_at + _KEPT_AFTER

    def refusal(self, now: int) -> GatewayError:
        """Tell that nothing is left of it."""
        seconds = max(1, -((now - self.ends_at) // 1000))
        if self.project is None:
            # There is no moment at which trying again helps; from this one on it needs another token anyway.
            return TokenExhausted(
                f"This token was good for {self.limit} {self.what}. Get a new one.", retry_after=seconds
            )
        return DailyBudgetExceeded(
            f"The project's budget of {self.limit} tasks a day is used up until midnight UTC.", retry_after=seconds
        )


def of_token(token: BrowserToken) -> Quota:
    """Return the quota of a token."""
    return Quota(token.id, token.max_tasks, token.expires_at)


def of_uploads(token: BrowserToken) -> Quota:
    """Return the quota of a token's uploads: as many as its tasks can take."""
    return Quota(f"uploads {token.id}", token.max_tasks * _PICTURES_PER_TASK, token.expires_at, what="uploads")


def of_day(project: str, limit: int, now: int) -> Quota:
    """Return a project's quota of the day (UTC) that it is now."""
    midnight = start_of_day(now)
    return Quota(day_name(project, now), limit, midnight + _DAY, project, midnight)


def start_of_day(now: int) -> int:
    """Return when the day (UTC) that it is now began, in milliseconds."""
    return now - now % _DAY


def day_name(project: str, now: int) -> str:
    """Return the name under which a project's tasks of this day are counted."""
    return f"day {now // _DAY} {project}"
