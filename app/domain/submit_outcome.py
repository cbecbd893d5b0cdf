"""What can come of one attempt to submit a task upstream. Money hangs on telling these apart."""

from dataclasses import dataclass

from app.domain.verdict import TaskError


@dataclass(frozen=True, slots=True)
class Accepted:
    """The upstream took the task and named it."""

    upstream_task_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The upstream refused this request for good; sending it again would change nothing."""

    error: TaskError


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The task certainly was not taken, for a reason that passes.

    `retry_after` is the upstream's own wish in milliseconds. `pauses_account` says that the reason holds for
    every task (a rate limit, no connection), so sending others meanwhile would only use up their tries.
    """

    error: TaskError
    retry_after: int | None = None
    pauses_account: bool = False


@dataclass(frozen=True, slots=True)
class AccountRefused:
    """The upstream refuses the account (key or credits), whatever the task."""

    error: TaskError


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request may have arrived, and may have been billed. Never sent again."""

    reason: str


SubmitOutcome = Accepted | Refused | TryAgain | AccountRefused | Unknown
