"""Every movement of a task, as pure functions: the task as it is in, the task as it shall be out.

`None` means that the movement does not apply to the task as it is now (somebody was faster); nothing changes then.
No function here reads a clock, a setting or the database, so that each can be tried out by hand and by machine.
"""

import msgspec
from msgspec.structs import replace

from app.domain.policy import Policy
from app.domain.submission import Accepted, AccountRefused, Refused, SubmitOutcome, TryAgain, Unknown
from app.domain.task import Status, Task
from app.domain.verdict import ErrorCode, Report, Succeeded, TaskError, Verdict


class Step(msgspec.Struct, frozen=True):
    """One movement: the task afterwards, the images it brought, and whether the world is told by an event."""

    task: Task
    is_event: bool = True
    image_urls: tuple[str, ...] = ()


def claim(task: Task, by: str, now: int, policy: Policy) -> Step | None:
    """Take a queued task in hand, right before it is sent. From here on it is never sent blindly again."""
    if task.status is not Status.QUEUED:
        return None
    return Step(
        replace(
            task,
            status=Status.SUBMITTING,
            attempts=task.attempts + 1,
            claimed_at=now,
            claimed_by=by,
            deadline_at=now + policy.task_timeout,
            updated_at=now,
        )
    )


def release(task: Task, now: int, policy: Policy) -> Step | None:
    """Put back a claimed task that was certainly not sent."""
    return _requeue(task, now, policy) if _awaits_reply(task) else None


def settle_submit(
    task: Task, attempt: int, outcome: SubmitOutcome, now: int, policy: Policy, jitter: float
) -> Step | None:
    """Apply what came of the submit that was the task's `attempt`-th.

    Recording may be tried again after a commit of which nobody knows whether it happened. By then the task may be on
    its next attempt, of which an old outcome tells nothing; only that the upstream has the task is true for good.
    `jitter` is a draw from 0 to 1 that spreads the retries of many tasks.
    """
    match outcome:
        case Accepted(upstream_task_id):
            return accept(task, upstream_task_id, now, policy)
        case _ if not _awaits_reply(task) or task.attempts != attempt:
            return None
        case Refused(error):
            return _fail(task, error, now)
        case AccountRefused(error):
            return _requeue(replace(task, error=error), now, policy)
        case TryAgain(error, retry_after):
            failures = task.failures + 1
            tried = replace(task, failures=failures, error=error)
            if failures >= policy.submit_tries:
                return _fail(tried, error, now)
            pause = max(policy.submit_pause(failures, jitter), retry_after or 0)
            return _requeue(replace(tried, not_before=now + pause), now, policy)
        case Unknown(reason):
            error = TaskError(ErrorCode.SUBMISSION_UNKNOWN, reason)
            # No longer in anybody's hands, so that no process takes it for a claim it never sent.
            return Step(replace(task, error=error, claimed_by=None, updated_at=now), is_event=False)


def accept(task: Task, upstream_task_id: str, now: int, policy: Policy) -> Step | None:
    """Note that the upstream has the task, as its reply or a callback told."""
    if task.is_guess and task.upstream_task_id is None:
        # We had given up by then. The id lets us ask, and a verdict may still replace the guess.
        return Step(replace(task, upstream_task_id=upstream_task_id, ask_at=now, updated_at=now), is_event=False)
    if task.status not in {Status.SUBMITTING, Status.QUEUED} or (task.status is Status.QUEUED and not task.attempts):
        return None
    processing = replace(
        task,
        status=Status.PROCESSING,
        upstream_task_id=upstream_task_id,
        submitted_at=now,
        error=None,
        deadline_at=now + policy.task_timeout,
        updated_at=now,
    )
    return Step(replace(processing, ask_at=_next_question(processing, now, policy)))


def conclude(task: Task, verdict: Verdict, now: int) -> Step | None:
    """Apply the upstream's verdict. It is final, and replaces nothing but our own guesses."""
    if task.is_final:
        return None
    upstream_task_id = task.upstream_task_id or verdict.upstream_task_id
    if not isinstance(verdict, Succeeded):
        return _fail(replace(task, upstream_task_id=upstream_task_id), verdict.error, now)
    succeeded = replace(
        task,
        status=Status.SUCCEEDED,
        upstream_task_id=upstream_task_id,
        error=None,
        submitted_at=task.submitted_at or task.claimed_at,
        completed_at=now,
        ask_at=None,
        deadline_at=None,
        updated_at=now,
    )
    return Step(succeeded, image_urls=verdict.image_urls)


def note_question(task: Task, now: int, policy: Policy) -> Step | None:
    """Note that the upstream was asked without a verdict, and plan the next question."""
    if task.ask_at is None:
        return None
    asked = replace(task, asked_at=now, asks=task.asks + 1)
    return Step(replace(asked, ask_at=_next_question(asked, now, policy)), is_event=False)


def hasten_question(task: Task, upstream_task_id: str | None, now: int, policy: Policy) -> Step | None:
    """Ask about the task now, as something unreadable arrived for it; many such arrivals make one question."""
    if task.upstream_task_id is None and upstream_task_id is not None and task.status is not Status.SUBMITTING:
        # Whoever knows the address and names an id has the task, whatever was thought of the submit.
        accepted = accept(task, upstream_task_id, now, policy)
        return replace(accepted, task=replace(accepted.task, ask_at=now)) if accepted else None
    # While our own submit is under way its reply has the last word on the id.
    known = task.upstream_task_id or upstream_task_id
    if known is None or task.is_final:
        return None
    if task.deadline_at is not None and task.deadline_at <= now:
        return None  # the last question is due or under way
    soonest = now if task.asked_at is None else max(now, task.asked_at + policy.hasten_pause)
    ask_at = soonest if task.ask_at is None else min(task.ask_at, soonest)
    return Step(replace(task, upstream_task_id=known, ask_at=ask_at), is_event=False)


def expire(task: Task, now: int, policy: Policy, account_error: TaskError | None) -> Step | None:
    """End a task that has waited beyond its deadline. `account_error` is why the account is held, if it is.

    A task that the upstream knows is asked about once more first: after an outage the answer may be waiting.
    """
    if task.deadline_at is None or task.deadline_at > now or task.is_terminal:
        return None
    if task.status is Status.QUEUED:
        waited = TaskError(ErrorCode.TIMEOUT, "The task was still queued when QUEUE_TIMEOUT_SECONDS had passed.")
        return _fail(task, account_error or task.error or waited, now)
    if task.upstream_task_id is None:
        reason = task.error.message if task.error else "The service stopped between claiming the task and the reply."
        message = f"Nobody knows whether the upstream took the task, and no callback came. {reason}"
        return _fail(task, TaskError(ErrorCode.SUBMISSION_UNKNOWN, message), now)
    if task.ask_at is not None and (task.asked_at is None or task.asked_at < task.deadline_at):
        return None
    message = "The upstream gave no verdict before TASK_TIMEOUT_SECONDS had passed."
    failed = _fail(task, TaskError(ErrorCode.TIMEOUT, message), now).task
    return Step(replace(failed, ask_at=_next_question(failed, now, policy)))


def cancel(task: Task, now: int) -> Step | None:
    """Cancel a task that has not been claimed."""
    if task.status is not Status.QUEUED:
        return None
    canceled = replace(
        task, status=Status.CANCELED, error=None, completed_at=now, deadline_at=None, ask_at=None, updated_at=now
    )
    return Step(canceled)


def names_another_task(task: Task, report: Report) -> bool:
    """Whether a report is about another upstream task than the one recorded."""
    named = report.upstream_task_id
    return named is not None and task.upstream_task_id is not None and named != task.upstream_task_id


def _awaits_reply(task: Task) -> bool:
    return task.status is Status.SUBMITTING and task.upstream_task_id is None


def _requeue(task: Task, now: int, policy: Policy) -> Step:
    queued = replace(
        task,
        status=Status.QUEUED,
        claimed_at=None,
        claimed_by=None,
        deadline_at=task.created_at + policy.queue_timeout,
        updated_at=now,
    )
    return Step(queued)


def _fail(task: Task, error: TaskError, now: int) -> Step:
    failed = replace(
        task, status=Status.FAILED, error=error, completed_at=now, deadline_at=None, ask_at=None, updated_at=now
    )
    return Step(failed)


def _next_question(task: Task, now: int, policy: Policy) -> int | None:
    if not task.is_terminal:
        asked_by = now + policy.question_pause(task.asks)
        # The last question before the deadline is due at the deadline, not after it.
        return asked_by if task.deadline_at is None or task.deadline_at <= now else min(asked_by, task.deadline_at)
    since = task.submitted_at or task.claimed_at or task.created_at
    return policy.late_question(since, now)
