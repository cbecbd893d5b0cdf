"""Quotas of tasks and uploads, per token or day."""

from dataclasses import dataclass

from app.domain.browser_token import BrowserToken
from app.domain.models import SPECS
from app.errors import DailyBudgetExceeded, GatewayError, TokenExhausted

_DAY_MS = 86_400_000
# Other replicas' clocks may be slightly behind.
_KEPT_AFTER_MS = 3_600_000
_MAX_IMAGES_PER_TASK = max(spec.max_input_images for spec in SPECS.values())


@dataclass(frozen=True, slots=True)
class Quota:
    """A limit on the number of `what`, until `ends_at` (milliseconds).

    Tasks that the project created since `counts_since` count even if the quota was set later.
    """

    name: str
    limit: int
    ends_at: int
    project: str | None = None
    counts_since: int = 0
    what: str = "task"

    @property
    def kept_until(self) -> int:
        """When its count may be deleted."""
        return self.ends_at + _KEPT_AFTER_MS

    def refusal(self, now: int) -> GatewayError:
        """Return the error for an exhausted quota."""
        seconds = max(1, -((now - self.ends_at) // 1000))
        if self.project is None:
            # Retrying never helps; once the token expires, a new one is needed anyway.
            limit = f"{self.limit} {self.what}" if self.limit == 1 else f"{self.limit} {self.what}s"
            return TokenExhausted(f"This token's limit of {limit} is used up. Get a new token.", retry_after=seconds)
        return DailyBudgetExceeded(
            f"The project's budget of {self.limit} tasks per day is used up until midnight UTC.", retry_after=seconds
        )


def of_token(token: BrowserToken) -> Quota:
    """Return a token's task quota."""
    return Quota(token.id, token.max_tasks, token.expires_at)


def of_uploads(token: BrowserToken) -> Quota:
    """Return a token's upload quota, enough for all its tasks."""
    return Quota(f"uploads {token.id}", token.max_tasks * _MAX_IMAGES_PER_TASK, token.expires_at, what="upload")


def of_day(project: str, limit: int, now: int) -> Quota:
    """Return a project's quota for the current day (UTC)."""
    midnight = start_of_day(now)
    return Quota(day_name(project, now), limit, midnight + _DAY_MS, project, midnight)


def start_of_day(now: int) -> int:
    """Return when the current day (UTC) began, in milliseconds."""
    return now - now % _DAY_MS


def day_name(project: str, now: int) -> str:
    """Return the name of a project's quota for today."""
    return f"day {now // _DAY_MS} {project}"
