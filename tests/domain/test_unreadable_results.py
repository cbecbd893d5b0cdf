"""Unreadable successes: noted, decisive at the deadline, and replaceable."""

import pytest
from msgspec.structs import replace

from app.domain import transitions
from app.domain.event import concludes, event_of
from app.domain.submit_outcome import Accepted, Unknown
from app.domain.task import Status, Task
from app.domain.verdict import ErrorCode, Failed, Succeeded, TaskError, Unreadable
from tests.support.tasks import NOW, POLICY, STATES

LATER = NOW + 5_000
NOTE = TaskError(ErrorCode.RESULT_UNREADABLE, "no URL")
UNREADABLE = Unreadable("no URL", "up", is_success=True)
ENDED = replace(STATES["timed out"], error=NOTE)


def noted(task: Task, report: Unreadable = UNREADABLE) -> Task:
    transition = transitions.note_unreadable(task, report, LATER, POLICY)
    return transition.task if transition else task


def expired(task: Task) -> Task:
    asked = replace(task, asked_at=task.deadline_at)
    transition = transitions.expire(asked, (task.deadline_at or 0) + 1, POLICY, None, unpolled_before=0)
    assert transition is not None
    assert transition.is_event
    return transition.task


@pytest.mark.parametrize("state", ["submitting", "submitting, id known", "processing"])
def test_a_sent_task_notes_an_unreadable_success_and_fails_with_it(state: str) -> None:
    task = noted(STATES[state])
    assert (task.error, task.status) == (NOTE, STATES[state].status)
    assert expired(task).error == NOTE


@pytest.mark.parametrize("state", ["new", "submission unknown", "timed out", "succeeded", "refused", "canceled"])
def test_other_tasks_note_nothing(state: str) -> None:
    assert noted(STATES[state]).error == STATES[state].error


def test_a_requeued_task_that_turns_out_to_be_accepted_notes_it() -> None:
    task = noted(STATES["requeued"])
    assert (task.status, task.upstream_task_id, task.error) == (Status.PROCESSING, "up", NOTE)


@pytest.mark.parametrize(
    "report", [Unreadable("no JSON"), Unreadable("no JSON", "up"), Unreadable("no URL", "another", is_success=True)]
)
def test_other_reports_leave_a_timeout(report: Unreadable) -> None:
    ended = expired(noted(STATES["processing"], report))
    assert ended.error is not None
    assert ended.error.code is ErrorCode.TIMEOUT


def test_an_unreadable_success_expedites_the_poll() -> None:
    assert noted(STATES["processing"]).ask_at == LATER
    # A repetition while the poll is due changes only the poll.
    again = noted(noted(STATES["processing"]))
    assert (again.ask_at, again.error) == (LATER, NOTE)


def test_polls_note_unreadable_successes_too() -> None:
    transition = transitions.note_poll(STATES["processing"], LATER, POLICY, UNREADABLE)
    assert transition is not None
    assert (transition.task.error, transition.task.asks, transition.is_event) == (NOTE, 1, False)


def test_the_outcome_of_the_submit_does_not_erase_the_note() -> None:
    early = noted(STATES["submitting"], Unreadable("no URL", is_success=True))
    for outcome in (Accepted("up"), Unknown("broke off")):
        settled = transitions.settle_submit(early, early.attempts, outcome, LATER, POLICY, 0.0, counts=True)
        assert settled is not None
        assert expired(settled.task).error == NOTE


@pytest.mark.parametrize(
    "verdict",
    [
        Succeeded("up", ("https://x.example/1.png",)),
        Failed("up", TaskError(ErrorCode.GENERATION_FAILED, "no luck", "501")),
    ],
)
def test_a_readable_result_replaces_it_before_and_after_the_deadline(verdict: Succeeded | Failed) -> None:
    assert ENDED.is_guess
    assert concludes(event_of(ENDED))
    for task in (noted(STATES["processing"]), ENDED):
        transition = transitions.conclude(task, verdict, LATER)
        assert transition is not None
        assert transition.is_event
        assert transition.task.is_final
        assert transition.task.error == (None if isinstance(verdict, Succeeded) else verdict.error)


def test_it_is_polled_about_for_a_day() -> None:
    ended = expired(noted(STATES["processing"]))
    assert ended.ask_at is not None
    assert noted(ended).error == NOTE
