"""All transitions of a task, as pure functions.

Each takes the task before and returns the task after. None means that the transition does not apply in the current
state.
"""

import msgspec
from msgspec.structs import replace

from app.domain.policy import Policy
from app.domain.submit_outcome import Accepted, AccountRefused, Refused, SubmitOutcome, TryAgain, Unknown
from app.domain.task import Status, Task
from app.domain.verdict import ErrorCode, Report, Succeeded, TaskError, Unreadable, Verdict


class Transition(msgspec.Struct, frozen=True):
    """The task after a transition, with any new images.

    `is_event` means that the transition creates an event.
    """

    task: Task
    is_event: bool = True
    image_urls: tuple[str, ...] = ()


def claim(task: Task, by: str, now: int, policy: Policy) -> Transition | None:
    """Claim a queued task immediately before it is sent."""
    if task.status is not Status.QUEUED:
        return None
    return Transition(
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


def release(task: Task, now: int, policy: Policy) -> Transition | None:
    """Requeue a claimed task that was certainly not sent."""
    return _requeue(task, now, policy) if _awaits_reply(task) else None


def settle_submit(
    task: Task, attempt: int, outcome: SubmitOutcome, now: int, policy: Policy, jitter: float, *, counts: bool
) -> Transition | None:
    """Apply the outcome of the task's `attempt`-th submit.

    Recording is repeated if the outcome of a commit is unknown. By then the task may be on its next attempt, to which
    only an acceptance still applies. `jitter` (0 to 1) spreads the retries of many tasks. A temporary refusal `counts`
    as a failure only if the upstream was otherwise healthy, so an outage uses up no retries.
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
        case TryAgain(error):
            failures = task.failures + counts
            tried = replace(task, failures=failures, error=error)
            if counts and failures >= policy.submit_tries:
                return _fail(tried, error, now)
            pause = policy.submit_pause(max(failures, 1), jitter)
            return _requeue(replace(tried, not_before=now + pause), now, policy)
        case Unknown(reason):
            error = _unreadable_result(task) or TaskError(ErrorCode.SUBMISSION_UNKNOWN, reason)
            # No longer claimed, so that it isn't mistaken for a claimed task that was never sent.
            return Transition(replace(task, error=error, claimed_by=None, updated_at=now), is_event=False)


def accept(task: Task, upstream_task_id: str, now: int, policy: Policy) -> Transition | None:
    """Record that the upstream has the task."""
    if task.is_guess and task.upstream_task_id is None:
        # The task has already failed by our guess. With the id, we can poll for a result that replaces the guess.
        return Transition(replace(task, upstream_task_id=upstream_task_id, ask_at=now, updated_at=now), is_event=False)
    if task.status not in {Status.SUBMITTING, Status.QUEUED} or (task.status is Status.QUEUED and not task.attempts):
        return None
    processing = replace(
        task,
        status=Status.PROCESSING,
        upstream_task_id=upstream_task_id,
        submitted_at=now,
        error=_unreadable_result(task),
        deadline_at=now + policy.task_timeout,
        updated_at=now,
    )
    return Transition(replace(processing, ask_at=_next_poll(processing, now, policy)))


def conclude(task: Task, verdict: Verdict, now: int) -> Transition | None:
    """Apply the upstream's verdict, which is final.

    It may replace our own guess.
    """
    if task.is_final:
        return None
    upstream_task_id = task.upstream_task_id or verdict.upstream_task_id
    if not isinstance(verdict, Succeeded):
        return _fail(replace(task, upstream_task_id=upstream_task_id), verdict.error, now)
    submitted_at = task.submitted_at or task.claimed_at
    succeeded = replace(task, upstream_task_id=upstream_task_id, submitted_at=submitted_at)
    return Transition(_ended(succeeded, Status.SUCCEEDED, None, now), image_urls=verdict.image_urls)


def note_poll(task: Task, now: int, policy: Policy, report: Report | None = None) -> Transition | None:
    """Record a poll without a verdict, and schedule the next."""
    if task.ask_at is None:
        return None
    asked = replace(_noting_unreadable(task, report), asked_at=now, asks=task.asks + 1)
    return Transition(replace(asked, ask_at=_next_poll(asked, now, policy)), is_event=False)


def note_unreadable(task: Task, report: Unreadable, now: int, policy: Policy) -> Transition | None:
    """Record an unreadable callback, and poll soon."""
    expedited = expedite_poll(task, report.upstream_task_id, now, policy)
    after = expedited.task if expedited else task
    noted = _noting_unreadable(after, report)
    if noted is after:
        return expedited
    return replace(expedited, task=noted) if expedited else Transition(noted, is_event=False)


def expedite_poll(task: Task, upstream_task_id: str | None, now: int, policy: Policy) -> Transition | None:
    """Poll soon after an unreadable callback.

    Several such callbacks cause one poll.
    """
    if task.upstream_task_id is None and upstream_task_id is not None and task.status is not Status.SUBMITTING:
        # The sender knows the callback URL and an id, so it has the task, even if the submit seemed to fail.
        accepted = accept(task, upstream_task_id, now, policy)
        return replace(accepted, task=replace(accepted.task, ask_at=now)) if accepted else None
    # While our submit is in flight, only its reply determines the id.
    known = task.upstream_task_id or upstream_task_id
    if known is None or task.is_final:
        return None
    if task.deadline_at is not None and task.deadline_at <= now:
        return None  # the last poll is due or in progress
    soonest = now if task.asked_at is None else max(now, task.asked_at + policy.expedite_pause)
    ask_at = soonest if task.ask_at is None else min(task.ask_at, soonest)
    return Transition(replace(task, upstream_task_id=known, ask_at=ask_at), is_event=False)


def expire(
    task: Task, now: int, policy: Policy, account_error: TaskError | None, *, unpolled_before: int
) -> Transition | None:
    """End a task past its deadline.

    `account_error` is why the account is closed, if it is. If the upstream has the task, one last poll comes first, as
    the result may be available after an outage. If the deadline is not later than `unpolled_before`, the task ends
    without that poll, which the upstream may never answer.
    """
    if task.deadline_at is None or task.deadline_at > now or task.is_terminal or not task.status.is_known:
        return None
    if task.status is Status.QUEUED:
        waited = TaskError(ErrorCode.TIMEOUT, "The task was still queued after QUEUE_TIMEOUT_SECONDS.")
        return _fail(task, account_error or task.error or waited, now)
    if task.upstream_task_id is None:
        reason = task.error.message if task.error else "The service stopped before it recorded the reply."
        message = f"Whether the upstream accepted the task is unknown, and no callback arrived. {reason}"
        return _fail(task, _unreadable_result(task) or TaskError(ErrorCode.SUBMISSION_UNKNOWN, message), now)
    is_polled = task.ask_at is None or (task.asked_at is not None and task.asked_at >= task.deadline_at)
    if not is_polled and task.deadline_at > unpolled_before:
        return None
    timeout = TaskError(ErrorCode.TIMEOUT, "No readable result arrived within TASK_TIMEOUT_SECONDS.")
    failed = _fail(task, _unreadable_result(task) or timeout, now).task
    return Transition(replace(failed, ask_at=_next_poll(failed, now, policy)))


def cancel(task: Task, now: int) -> Transition | None:
    """Cancel a task that has not been claimed."""
    if task.status is not Status.QUEUED:
        return None
    return Transition(_ended(task, Status.CANCELED, None, now))


def names_another_task(task: Task, report: Report) -> bool:
    """Whether a report is about a different upstream task."""
    named = report.upstream_task_id
    return named is not None and task.upstream_task_id is not None and named != task.upstream_task_id


def _noting_unreadable(task: Task, report: Report | None) -> Task:
    """Record in the task's error an unreadable success report.

    The task fails with this error unless a readable result arrives in time.
    """
    if not isinstance(report, Unreadable) or not report.is_success or names_another_task(task, report):
        return task
    error = TaskError(ErrorCode.RESULT_UNREADABLE, report.reason)
    if task.status not in {Status.SUBMITTING, Status.PROCESSING} or task.error == error:
        return task
    return replace(task, error=error)


def _unreadable_result(task: Task) -> TaskError | None:
    """Return the error that notes an unreadable success."""
    return task.error if task.error and task.error.code is ErrorCode.RESULT_UNREADABLE else None


def _awaits_reply(task: Task) -> bool:
    return task.status is Status.SUBMITTING and task.upstream_task_id is None


def _requeue(task: Task, now: int, policy: Policy) -> Transition:
    queued = replace(
        task,
        status=Status.QUEUED,
        claimed_at=None,
        claimed_by=None,
        deadline_at=task.created_at + policy.queue_timeout,
        updated_at=now,
    )
    return Transition(queued)


def _fail(task: Task, error: TaskError, now: int) -> Transition:
    return Transition(_ended(task, Status.FAILED, error, now))


def _ended(task: Task, status: Status, error: TaskError | None, now: int) -> Task:
    return replace(task, status=status, error=error, completed_at=now, deadline_at=None, ask_at=None, updated_at=now)


def _next_poll(task: Task, now: int, policy: Policy) -> int | None:
    if not task.is_terminal:
        due = now + policy.poll_pause(task.asks)
        # The last poll before the deadline is due at the deadline, not after it.
        return due if task.deadline_at is None or task.deadline_at <= now else min(due, task.deadline_at)
    since = task.submitted_at or task.claimed_at or task.created_at
    return policy.late_poll(since, now)
