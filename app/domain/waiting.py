"""Why an unfinished task makes no progress."""

from app.domain.account import Account, AccountState
from app.domain.task import Status, Task, Wait, WaitReason
from app.domain.verdict import ErrorCode

_ACCOUNT_REASONS = {
    ErrorCode.INSUFFICIENT_CREDITS: WaitReason.INSUFFICIENT_CREDITS,
    ErrorCode.UPSTREAM_UNAUTHORIZED: WaitReason.UPSTREAM_UNAUTHORIZED,
}


def account_wait(account: Account, now: int) -> Wait | None:
    """Return why the account sends nothing; None if it's open."""
    if account.is_open:
        return None
    reason = WaitReason.UPSTREAM_UNAVAILABLE
    if account.state is AccountState.HELD:
        reason = _ACCOUNT_REASONS.get(account.error.code, WaitReason.HELD) if account.error else WaitReason.HELD
    return Wait(reason, _future(account.until, now))


def task_wait(task: Task, account: Account, slot_free_at: int | None, now: int) -> Wait | None:
    """Return why a task waits, unless just for its turn.

    `slot_free_at` is when the rate limit admits the next submit; None if it admits one now.
    """
    if task.status is Status.SUBMITTING and task.error is not None and task.error.code is ErrorCode.SUBMISSION_UNKNOWN:
        return Wait(WaitReason.OUTCOME_UNKNOWN)
    if task.status is not Status.QUEUED:
        return None
    if wait := account_wait(account, now):
        return wait
    if task.attempts and task.not_before > now:
        return Wait(WaitReason.UPSTREAM_UNAVAILABLE, task.not_before)
    return None if slot_free_at is None else Wait(WaitReason.RATE_LIMIT, slot_free_at)


def _future(moment: int, now: int) -> int | None:
    return moment if moment > now else None
