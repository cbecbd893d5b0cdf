"""Quotas of tasks and uploads, per token or day."""

from dataclasses import dataclass

from app.domain.browser_token import BrowserToken
from app.domain.models import SPECS
from app.errors import DailyBudgetExceeded, DailyUploadsExceeded, GatewayError, TokenExhausted

_DAY_MS = 86_400_000
# Other replicas' clocks may be slightly behind.
_KEPT_AFTER_MS = 3_600_000
_MAX_IMAGES_PER_TASK = max(spec.max_input_images for spec in SPECS.values())
# In units of the largest upload. Most tasks have one or two input images, and most images are much smaller.
_LARGEST_UPLOADS_PER_TASK = 2
_KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """A limit on a sum, and the `amount` to add.

    It applies until `ends_at` (milliseconds). The tasks that `project` has created since `counts_since` count even if
    the quota was set later. Beyond the limit, `error` is raised with `message`.
    """

    name: str
    limit: int
    ends_at: int
    error: type[GatewayError]
    message: str
    amount: int = 1
    project: str | None = None
    counts_since: int = 0

    @property
    def kept_until(self) -> int:
        """When the count may be deleted."""
        return self.ends_at + _KEPT_AFTER_MS

    def is_exceeded(self, used: int) -> bool:
        """Whether adding the amount exceeds the limit."""
        return used + self.amount > self.limit

    def refusal(self, now: int) -> GatewayError:
        """Return the error for an exceeded quota."""
        return self.error(self.message, retry_after=max(1, -((now - self.ends_at) // 1000)))


def of_token(token: BrowserToken) -> Quota:
    """Return a token's task quota."""
    return _of_token(token, token.id, token.max_tasks, "1 task" if token.max_tasks == 1 else f"{token.max_tasks} tasks")


def of_upload(
    token: BrowserToken | None, project: str, size: int, now: int, *, max_bytes: int, daily_bytes: int
) -> list[Quota]:
    """Return the quotas for an upload of `size` bytes.

    A token may upload as many images as its tasks can use. Their total size is limited to two images of `max_bytes` per
    task. A project may upload `daily_bytes` per day (UTC); 0 means no limit. Bytes are counted in KiB, rounded up.
    """
    kib = -(-size // _KIB)
    quotas = []
    if token is not None:
        count = token.max_tasks * _MAX_IMAGES_PER_TASK
        total = token.max_tasks * _LARGEST_UPLOADS_PER_TASK * max_bytes // _KIB
        quotas += [
            _of_token(token, f"uploads {token.id}", count, f"{count} uploads"),
            _of_token(token, f"upload bytes {token.id}", total, f"{total:,} KiB of uploads", kib),
        ]
    if daily_bytes:
        limit, day = daily_bytes // _KIB, now // _DAY_MS
        message = f"The project's limit of {limit:,} KiB of uploads per day is used up until midnight UTC."
        ends_at = start_of_day(now) + _DAY_MS
        name = f"upload bytes {day} {project}"
        quotas.append(
            Quota(name=name, limit=limit, ends_at=ends_at, error=DailyUploadsExceeded, message=message, amount=kib)
        )
    return quotas


def of_day(project: str, limit: int, now: int) -> Quota:
    """Return a project's quota for the current day (UTC)."""
    midnight = start_of_day(now)
    return Quota(
        name=day_name(project, now),
        limit=limit,
        ends_at=midnight + _DAY_MS,
        error=DailyBudgetExceeded,
        message=f"The project's budget of {limit} tasks per day is used up until midnight UTC.",
        project=project,
        counts_since=midnight,
    )


def _of_token(token: BrowserToken, name: str, limit: int, what: str, amount: int = 1) -> Quota:
    # Retrying doesn't help: once this token has expired, a new one is needed anyway.
    message = f"This token's limit of {what} is used up. Get a new token."
    return Quota(name=name, limit=limit, ends_at=token.expires_at, error=TokenExhausted, message=message, amount=amount)


def start_of_day(now: int) -> int:
    """Return when the current day (UTC) began, in milliseconds."""
    return now - now % _DAY_MS


def day_name(project: str, now: int) -> str:
    """Return the name of a project's quota for today."""
    return f"day {now // _DAY_MS} {project}"
