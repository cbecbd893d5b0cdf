"""All allowed transitions as tables; anything else must change nothing."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from app.domain import transitions
from app.domain.submit_outcome import Accepted, AccountRefused, Refused, SubmitOutcome, TryAgain, Unknown
from app.domain.task import Status, Task
from app.domain.transitions import Transition
from app.domain.verdict import ErrorCode, Failed, Generating, Report, Succeeded, TaskError, Unreadable, Verdict
from tests.support.tasks import NOW, POLICY, STATES, make_task

LATER = NOW + 5_000
PASSING = TaskError(ErrorCode.UPSTREAM_ERROR, "busy", "429")
ACCOUNT = TaskError(ErrorCode.INSUFFICIENT_CREDITS, "no credits", "402")
REQUEST = TaskError(ErrorCode.INVALID_REQUEST, "bad prompt", "400")
POLICY_ERROR = TaskError(ErrorCode.CONTENT_POLICY, "no", "400")
SUCCESS = Succeeded("up", ("https://x.example/1.png", "https://x.example/2.png"))
FAILURE = Failed(None, POLICY_ERROR)

Move = Callable[[Task], Transition | None]


def settle(outcome: SubmitOutcome) -> Move:
    return lambda task: transitions.settle_submit(task, task.attempts, outcome, LATER, POLICY, 0.0, counts=True)


def conclude(verdict: Verdict) -> Move:
    return lambda task: transitions.conclude(task, verdict, LATER)


Q, S, P, OK, F, C = (
    Status.QUEUED,
    Status.SUBMITTING,
    Status.PROCESSING,
    Status.SUCCEEDED,
    Status.FAILED,
    Status.CANCELED,
)
_UNFINISHED = ("new", "requeued", "submitting", "submitting, id known", "processing")
_GUESSES = ("submission unknown", "timed out")
_VERDICT_MOVES = (*_UNFINISHED, *_GUESSES)

TABLE: dict[str, tuple[Move, dict[str, Status]]] = {
    "claim": (lambda task: transitions.claim(task, "me", LATER, POLICY), {"new": S, "requeued": S}),
    "release": (lambda task: transitions.release(task, LATER, POLICY), {"submitting": Q}),
    "cancel": (lambda task: transitions.cancel(task, LATER), {"new": C, "requeued": C}),
    "accepted": (
        settle(Accepted("up")),
        {"requeued": P, "submitting": P, "submitting, id known": P, "submission unknown": F},
    ),
    "accept by callback": (
        lambda task: transitions.accept(task, "up", LATER, POLICY),
        {"requeued": P, "submitting": P, "submitting, id known": P, "submission unknown": F},
    ),
    "refused": (settle(Refused(REQUEST)), {"submitting": F}),
    "account refused": (settle(AccountRefused(ACCOUNT)), {"submitting": Q}),
    "try again": (settle(TryAgain(PASSING)), {"submitting": Q}),
    "unknown": (settle(Unknown("broke off")), {"submitting": S}),
    "success": (conclude(SUCCESS), dict.fromkeys(_VERDICT_MOVES, OK)),
    "failure": (conclude(FAILURE), dict.fromkeys(_VERDICT_MOVES, F)),
    "asked in vain": (
        lambda task: transitions.note_poll(task, LATER, POLICY),
        {"submitting, id known": S, "processing": P, "timed out": F},
    ),
    "hasten": (
        lambda task: transitions.expedite_poll(task, None, LATER, POLICY),
        {"submitting, id known": S, "processing": P, "timed out": F},
    ),
    "hasten by a named id": (
        lambda task: transitions.expedite_poll(task, "up", LATER, POLICY),
        {
            "requeued": P,
            "submitting": S,
            "submitting, id known": S,
            "processing": P,
            "timed out": F,
            "submission unknown": F,
        },
    ),
    "deadline": (
        lambda task: transitions.expire(
            replace(task, asked_at=task.deadline_at), NOW + 10**9, POLICY, None, unpolled_before=0
        ),
        dict.fromkeys(_UNFINISHED, F),
    ),
    "before the deadline": (lambda task: transitions.expire(task, LATER, POLICY, None, unpolled_before=0), {}),
}


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("move", TABLE)
def test_every_transition_applies_only_in_its_states(move: str, state: str) -> None:
    act, table = TABLE[move]
    transition = act(STATES[state])
    assert (transition.task.status if transition else None) == table.get(state)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("move", TABLE)
def test_no_transition_changes_the_identity_of_a_task(move: str, state: str) -> None:
    before = STATES[state]
    transition = TABLE[move][0](before)
    if transition is None:
        return
    after = transition.task
    same = "id project subject model type input metadata webhook_url retry_of created_at callbacks version".split()
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]
    assert after.is_terminal == (after.completed_at is not None)
    assert before.upstream_task_id in {None, after.upstream_task_id}
    if after.is_terminal:
        assert after.deadline_at is None
    else:
        assert after.deadline_at is not None
    if after.is_final:
        assert after.ask_at is None
    if after.status is P:
        assert after.upstream_task_id
        assert after.ask_at is not None


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("move", TABLE)
def test_only_changes_of_state_create_events(move: str, state: str) -> None:
    before = STATES[state]
    transition = TABLE[move][0](before)
    if transition is not None:
        was, is_now = (before.status, before.error), (transition.task.status, transition.task.error)
        told = was != is_now and transition.task.status is not S
        assert transition.is_event == (told or move == "claim")


def test_a_claim_counts_an_attempt_and_sets_the_deadline() -> None:
    transition = transitions.claim(STATES["requeued"], "me", LATER, POLICY)
    assert transition is not None
    task = transition.task
    assert (task.attempts, task.failures, task.claimed_at, task.claimed_by) == (2, 1, LATER, "me")
    assert task.deadline_at == LATER + POLICY.task_timeout


def test_an_acceptance_renews_the_deadline_and_schedules_a_poll() -> None:
    transition = transitions.accept(STATES["submitting"], "up", LATER, POLICY)
    assert transition is not None
    task = transition.task
    assert (task.upstream_task_id, task.submitted_at, task.error) == ("up", LATER, None)
    assert (task.deadline_at, task.ask_at) == (LATER + POLICY.task_timeout, LATER + POLICY.poll_after)


def test_an_acceptance_after_a_guess_causes_a_poll_at_once() -> None:
    transition = transitions.accept(STATES["submission unknown"], "up", LATER, POLICY)
    assert transition is not None
    assert (transition.task.upstream_task_id, transition.task.ask_at, transition.is_event) == ("up", LATER, False)


@pytest.mark.parametrize(("failures", "status"), [(0, Q), (3, Q), (4, F)])
def test_temporary_refusals_fail_the_task_after_the_last_attempt(failures: int, status: Status) -> None:
    transition = transitions.settle_submit(
        replace(STATES["submitting"], failures=failures),
        STATES["submitting"].attempts,
        TryAgain(PASSING),
        LATER,
        POLICY,
        0.0,
        counts=True,
    )
    assert transition is not None
    assert (transition.task.status, transition.task.failures, transition.task.error) == (status, failures + 1, PASSING)
    if status is Q:
        assert transition.task.not_before == LATER + (1_000 << failures)
        assert transition.task.claimed_by is None
        assert transition.task.deadline_at == NOW + POLICY.queue_timeout


def test_an_outage_uses_up_no_attempts() -> None:
    task = replace(STATES["submitting"], failures=POLICY.submit_tries - 1)
    transition = transitions.settle_submit(task, 1, TryAgain(PASSING), LATER, POLICY, 0.0, counts=False)
    assert transition is not None
    assert (transition.task.status, transition.task.failures) == (Status.QUEUED, task.failures)
    assert transition.task.not_before > LATER


def test_a_refused_account_uses_up_no_attempt_and_adds_no_pause() -> None:
    transition = transitions.settle_submit(
        STATES["submitting"], STATES["submitting"].attempts, AccountRefused(ACCOUNT), LATER, POLICY, 0.0, counts=True
    )
    assert transition is not None
    assert (transition.task.failures, transition.task.error, transition.task.not_before) == (0, ACCOUNT, NOW)


def test_an_unknown_outcome_removes_the_claim() -> None:
    transition = transitions.settle_submit(
        STATES["submitting"], STATES["submitting"].attempts, Unknown("broke off"), LATER, POLICY, 0.0, counts=True
    )
    assert transition is not None
    assert transition.task.claimed_by is None
    assert transition.task.deadline_at == STATES["submitting"].deadline_at
    assert transition.task.error == TaskError(ErrorCode.SUBMISSION_UNKNOWN, "broke off")


def test_a_success_sets_the_images_and_the_id() -> None:
    transition = transitions.conclude(STATES["submitting"], SUCCESS, LATER)
    assert transition is not None
    assert transition.image_urls == SUCCESS.image_urls
    assert (transition.task.upstream_task_id, transition.task.submitted_at, transition.task.error) == ("up", NOW, None)


def test_a_verdict_replaces_a_guess_and_creates_an_event() -> None:
    for verdict, error in ((SUCCESS, None), (FAILURE, POLICY_ERROR)):
        transition = transitions.conclude(STATES["timed out"], verdict, LATER)
        assert transition is not None
        assert (transition.is_event, transition.task.error, transition.task.is_final) == (True, error, True)


@pytest.mark.parametrize(
    ("state", "account_error", "code"),
    [
        ("new", None, ErrorCode.TIMEOUT),
        ("new", ACCOUNT, ErrorCode.INSUFFICIENT_CREDITS),
        ("submitting", ACCOUNT, ErrorCode.SUBMISSION_UNKNOWN),
        ("processing", ACCOUNT, ErrorCode.TIMEOUT),
    ],
)
def test_a_deadline_names_its_reason(state: str, account_error: TaskError | None, code: ErrorCode) -> None:
    task = replace(STATES[state], asked_at=STATES[state].deadline_at)
    transition = transitions.expire(task, NOW + 10**9, POLICY, account_error, unpolled_before=0)
    assert transition is not None
    assert transition.task.error is not None
    assert transition.task.error.code is code


def test_a_queued_task_that_was_refused_fails_with_that_reason() -> None:
    transition = transitions.expire(make_task(attempts=3, error=PASSING), NOW + 10**9, POLICY, None, unpolled_before=0)
    assert transition is not None
    assert transition.task.error == PASSING


@pytest.mark.parametrize("asked_at", [None, NOW, NOW + POLICY.task_timeout - 1])
def test_no_timeout_before_a_poll_at_the_deadline(asked_at: int | None) -> None:
    task = replace(STATES["processing"], asked_at=asked_at)
    assert transitions.expire(task, NOW + 10**9, POLICY, None, unpolled_before=0) is None


def test_a_deadline_far_enough_in_the_past_needs_no_last_poll() -> None:
    task = STATES["processing"]
    assert task.deadline_at is not None
    for before, is_ended in ((task.deadline_at - 1, False), (task.deadline_at, True)):
        transition = transitions.expire(task, NOW + 10**9, POLICY, None, unpolled_before=before)
        assert (transition is not None) is is_ended


def test_a_timed_out_task_is_polled_again_later() -> None:
    deadline = STATES["processing"].deadline_at
    assert deadline is not None
    transition = transitions.expire(
        replace(STATES["processing"], asked_at=deadline), deadline, POLICY, None, unpolled_before=0
    )
    assert transition is not None
    assert transition.task.ask_at is not None
    assert transition.task.ask_at > deadline


def test_the_last_poll_before_a_deadline_is_due_at_the_deadline() -> None:
    deadline = STATES["processing"].deadline_at
    assert deadline is not None
    transition = transitions.note_poll(STATES["processing"], deadline - 10, POLICY)
    assert transition is not None
    assert transition.task.ask_at == deadline


@pytest.mark.parametrize(
    ("asked_at", "expected"),
    [(None, LATER), (NOW, LATER), (LATER - 500, LATER - 500 + POLICY.expedite_pause)],
)
def test_an_expedited_poll_keeps_a_distance_from_the_last(asked_at: int | None, expected: int) -> None:
    transition = transitions.expedite_poll(replace(STATES["processing"], asked_at=asked_at), None, LATER, POLICY)
    assert transition is not None
    assert transition.task.ask_at == expected


@pytest.mark.parametrize(
    ("known", "report", "is_another"),
    [
        ("up", Succeeded("other", ("https://x.example",)), True),
        ("up", Failed("other", REQUEST), True),
        ("up", Generating("other"), True),
        ("up", Unreadable("?", "other"), True),
        ("up", Succeeded("up", ("https://x.example",)), False),
        ("up", Failed(None, REQUEST), False),
        (None, Succeeded("other", ("https://x.example",)), False),
    ],
)
def test_a_report_about_another_task_is_noticed(known: str | None, report: Report, is_another: bool) -> None:
    assert transitions.names_another_task(make_task(upstream_task_id=known), report) is is_another


def test_the_last_poll_before_the_end_is_not_expedited() -> None:
    deadline = STATES["processing"].deadline_at
    assert deadline is not None
    assert transitions.expedite_poll(STATES["processing"], None, deadline, POLICY) is None


@pytest.mark.parametrize(
    "outcome", [TryAgain(PASSING), AccountRefused(ACCOUNT), Refused(PASSING), Unknown("broke off")], ids=str
)
def test_the_outcome_of_an_earlier_attempt_is_ignored(outcome: SubmitOutcome) -> None:
    """Recording may be repeated after the task was submitted again."""
    second = replace(STATES["submitting"], attempts=2)
    assert transitions.settle_submit(second, 1, outcome, LATER, POLICY, 0.0, counts=True) is None
    assert transitions.settle_submit(second, 2, outcome, LATER, POLICY, 0.0, counts=True) is not None


def test_a_late_acceptance_still_counts() -> None:
    second = replace(STATES["submitting"], attempts=2)
    transition = transitions.settle_submit(second, 1, Accepted("up"), LATER, POLICY, 0.0, counts=True)
    assert transition is not None
    assert (transition.task.status, transition.task.upstream_task_id) == (Status.PROCESSING, "up")


def test_the_id_in_our_own_reply_wins_over_one_from_an_unreadable_callback() -> None:
    hastened = transitions.expedite_poll(STATES["submitting"], "from-garbage", LATER, POLICY)
    assert hastened is not None
    transition = transitions.accept(hastened.task, "from-reply", LATER, POLICY)
    assert transition is not None
    assert transition.task.upstream_task_id == "from-reply"
