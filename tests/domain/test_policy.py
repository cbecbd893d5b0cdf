"""Timeouts and pauses."""

from dataclasses import replace

import pytest

from app.domain.policy import Policy
from tests.support.tasks import POLICY

HOUR = 3_600_000


@pytest.mark.parametrize(
    ("failures", "longest"),
    [(1, 1_000), (2, 2_000), (3, 4_000), (6, 32_000), (7, 60_000), (8, 60_000), (100, 60_000)],
)
def test_pauses_between_attempts_double_up_to_a_minute(failures: int, longest: int) -> None:
    assert POLICY.submit_pause(failures, 0.0) == longest
    assert POLICY.submit_pause(failures, 0.5) == longest * 3 // 4
    assert POLICY.submit_pause(failures, 1.0) == longest // 2


@pytest.mark.parametrize(
    ("poll_after", "pauses"),
    [
        (60_000, [60_000, 60_000, 60_000]),
        (3_000, [3_000, 4_500, 6_750, 10_125, 15_188, 22_781, 30_000, 30_000]),
        (20_000, [20_000, 30_000, 30_000]),
    ],
)
def test_each_poll_waits_half_as_long_again_up_to_a_cap(poll_after: int, pauses: list[int]) -> None:
    policy = replace(POLICY, poll_after=poll_after)
    assert [policy.poll_pause(asks) for asks in range(len(pauses))] == pauses
    assert policy.poll_pause(10**6) == pauses[-1]


@pytest.mark.parametrize(
    ("waited", "pause"),
    [(0, 60_000), (15 * 60_000, 225_000), (8 * HOUR, HOUR), (24 * HOUR - 1, HOUR), (24 * HOUR, None)],
)
def test_polls_after_a_timeout_become_rare_and_end_after_a_day(waited: int, pause: int | None) -> None:
    asked_at = Policy.late_poll(1_000, 1_000 + waited)
    assert asked_at == (None if pause is None else 1_000 + waited + pause)
