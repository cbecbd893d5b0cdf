"""How many polls are made and are in flight."""

import pytest

from app.domain.verdict import Generating, Unanswered
from app.upstream.call_window import CallWindow
from app.upstream.poll_pace import PollPace
from tests.support.clock import HandTimer
from tests.support.tasks import POLICY

ANSWER, SILENCE = Generating("up"), Unanswered("no answer")


@pytest.fixture
def timer() -> HandTimer:
    return HandTimer()


def poll(pace: PollPace, report: Generating | Unanswered, delay: float = 0.0) -> None:
    pace.begin(1, delay)
    pace.end(report)


def polls_within(pace: PollPace, timer: HandTimer, seconds: int, delay: float) -> int:
    """Count the polls made, with an immediate answer to each."""
    done = 0
    for _ in range(seconds * 20):
        timer.seconds += 0.05
        while pace.allowance:
            poll(pace, ANSWER, delay)
            done += 1
    return done


@pytest.mark.parametrize(("delay", "per_second"), [(0.0, 20), (1.0, 40), (9.0, 200), (3600.0, 400)])
def test_late_polls_raise_the_rate(timer: HandTimer, delay: float, per_second: int) -> None:
    pace = PollPace(POLICY, timer)
    polls_within(pace, timer, 1, delay)
    assert polls_within(pace, timer, 10, delay) == pytest.approx(10 * per_second, rel=0.05)


def test_polls_pause_after_three_without_an_answer_then_one_tries_again(timer: HandTimer) -> None:
    pace, pauses = PollPace(POLICY, timer), []
    for _ in range(2):
        poll(pace, SILENCE)
        assert pace.allowance > 1
    for _ in range(4):
        poll(pace, SILENCE)
        began = timer.seconds
        while not pace.allowance:
            timer.seconds += 0.5
        pauses.append(timer.seconds - began)
        assert pace.allowance == 1
    assert pauses == [2, 4, 8, 16]
    poll(pace, ANSWER)
    assert pace.allowance > 1


def test_the_ends_of_polls_begun_before_a_pause_do_not_lengthen_it(timer: HandTimer) -> None:
    pace = PollPace(POLICY, timer)
    pace.begin(4, 0.0)
    for _ in range(4):
        pace.end(SILENCE)
    timer.seconds += 2
    assert pace.allowance == 1


def test_a_rate_limit_on_polls_pauses_at_once(timer: HandTimer) -> None:
    pace = PollPace(POLICY, timer)
    poll(pace, Unanswered("too many", retry_after=30_000, is_clear=True))
    timer.seconds += 29
    assert pace.allowance == 0
    timer.seconds += 1
    assert pace.allowance == 1


def test_few_calls_are_in_flight_until_there_are_answers(timer: HandTimer) -> None:
    window, sizes = CallWindow(16, timer), []
    for _ in range(4):
        calls = window.room
        sizes.append(calls)
        window.begin(calls)
        for _ in range(calls):
            window.end(answered=True)
    assert sizes == [4, 8, 16, 16]


def test_three_failures_in_a_row_shrink_the_window(timer: HandTimer) -> None:
    window, rooms = CallWindow(16, timer), []
    for answered in [True] * 12 + [False, False, True, False, False, False]:
        window.begin(1)
        window.end(answered=answered)
        rooms.append(window.room)
    assert rooms[11:] == [16, 16, 16, 16, 16, 16, 4]


def test_occasional_failures_do_not_slow_a_slow_upstream(timer: HandTimer) -> None:
    window, in_flight = CallWindow(64, timer), []
    for number in range(10):
        calls = window.room
        in_flight.append(calls)
        window.begin(calls)
        timer.seconds += 15
        for call in range(calls):
            window.end(answered=(number + call) % 40 != 0, seconds=15)
    assert min(in_flight[5:]) >= 60


def test_silence_limits_calls_to_a_few_again(timer: HandTimer) -> None:
    window = CallWindow(16, timer)
    for _ in range(12):
        window.begin(1)
        window.end(answered=True)
    assert window.room == 16
    window.begin(3)
    timer.seconds += 2.1
    assert window.room == 1


def test_a_slow_upstream_is_not_mistaken_for_a_silent_one(timer: HandTimer) -> None:
    window = CallWindow(16, timer)
    for _ in range(6):
        calls = window.room
        window.begin(calls)
        timer.seconds += 5
        for _ in range(calls):
            window.end(answered=True, seconds=5)
    assert window.room == 16
    timer.seconds += 9
    assert window.room == 16
    timer.seconds += 2
    assert window.room == 4
