"""The outcomes of submitting a task upstream.

A wrong outcome may cost money.
"""

from dataclasses import dataclass

from app.domain.verdict import TaskError


@dataclass(frozen=True, slots=True)
class Accepted:
    """The upstream accepted the task and returned its id."""

    upstream_task_id: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The upstream rejected this request; a retry would be pointless."""

    error: TaskError


@dataclass(frozen=True, slots=True)
class TryAgain:
    """The task was certainly not accepted, for a temporary reason.

    `retry_after` is the upstream's, in milliseconds. `pauses_account` means that the reason affects every task (a rate
    limit, maintenance, no connection), so sending other tasks is pointless.
    """

    error: TaskError
    retry_after: int | None = None
    pauses_account: bool = False


@dataclass(frozen=True, slots=True)
class AccountRefused:
    """The upstream refuses the account (key or credits)."""

    error: TaskError


@dataclass(frozen=True, slots=True)
class Unknown:
    """The task may have been billed; it is never resent."""

    reason: str


SubmitOutcome = Accepted | Refused | TryAgain | AccountRefused | Unknown
