"""Quotas end on time, and no window exceeds its limit."""

import random

import pytest

from app.domain import quota
from app.domain.browser_token import BrowserToken
from app.domain.rate import RateWindow
from app.errors import DailyBudgetExceeded, DailyUploadsExceeded, TokenExhausted

DAY = 86_400_000
MIDNIGHT = 20_000 * DAY


@pytest.mark.parametrize(("after_midnight", "seconds"), [(0, 86_400), (1, 86_400), (DAY - 1, 1), (DAY - 1_500, 2)])
def test_a_daily_budget_is_renewed_at_midnight(after_midnight: int, seconds: int) -> None:
    now = MIDNIGHT + after_midnight
    of_day = quota.of_day("shop", 5, now)
    assert (of_day.counts_since, of_day.ends_at) == (MIDNIGHT, MIDNIGHT + DAY)
    refusal = of_day.refusal(now)
    assert isinstance(refusal, DailyBudgetExceeded)
    assert refusal.retry_after == seconds


def test_days_and_projects_are_counted_separately() -> None:
    names = {quota.of_day(project, 5, MIDNIGHT + day * DAY).name for project in ("a", "b") for day in (0, 1)}
    assert len(names) == 4
    assert max(map(len, {quota.day_name("p" * 64, MIDNIGHT)})) <= 128


def test_a_used_up_token_says_when_it_ends() -> None:
    token = BrowserToken("tok_1", "default", "user-7", None, 3, MIDNIGHT + 10_000)
    refusal = quota.of_token(token).refusal(MIDNIGHT)
    assert isinstance(refusal, TokenExhausted)
    assert refusal.retry_after == 10
    assert quota.of_token(token).refusal(MIDNIGHT + 20_000).retry_after == 1


def test_an_upload_is_charged_to_its_token_and_to_the_day() -> None:
    now, token = MIDNIGHT + DAY - 2_000, BrowserToken("tok_1", "shop", "user-7", None, 3, MIDNIGHT + DAY)
    limits = {"max_bytes": 10 * 1024, "daily_bytes": 100 * 1024}
    count, total, day = quota.of_upload(token, "shop", 4_097, now, **limits)
    assert [(each.amount, each.limit) for each in (count, total, day)] == [(1, 42), (5, 60), (5, 100)]
    assert [total.is_exceeded(used) for used in (0, 55, 56)] == [False, False, True]
    assert [type(each.refusal(now)) for each in (count, total, day)] == [TokenExhausted] * 2 + [DailyUploadsExceeded]
    assert day.refusal(now).retry_after == 2
    assert len({each.name for each in (count, total, day, quota.of_token(token))}) == 4
    assert [each.name for each in quota.of_upload(None, "shop", 1, now, **limits)] == [day.name]
    assert quota.of_upload(None, "shop", 1, now, max_bytes=1024, daily_bytes=0) == []
    longest = quota.of_upload(None, "p" * 64, 1, now, **limits)[0].name
    assert len(longest) <= 128


def test_no_window_sees_more_than_its_limit() -> None:
    count, seconds = 7, 3.0
    window, chance = RateWindow(count, seconds), random.Random(4711)
    now, passed = 1_000.0, []
    for _ in range(3_000):
        now += chance.choice((0.0, 0.01, 0.2, 1.0))
        wait = window.take("key", now)
        if wait == 0:
            passed.append(now)
        else:
            # The wait is exact.
            assert passed[-count] + seconds == pytest.approx(now + wait)
    for first, last in zip(passed, passed[count:], strict=False):
        assert last - first >= seconds
    assert len(passed) > count * (now - 1_000) / seconds * 0.8


def test_keys_are_counted_separately_and_forgotten() -> None:
    window = RateWindow(1, 10)
    assert [window.take(name, 0) for name in ("a", "b", "a")] == [0, 0, 10]
    assert window.take("c", 60) == 0
    assert window.take("a", 60) == 0
    assert window.take("c", 61) == 9


def test_revoked_admissions_do_not_count() -> None:
    window = RateWindow(2, 10)
    assert [window.take("a", now) for now in (0, 1, 2)] == [0, 0, 8]
    window.give_back("a", 1)
    assert [window.take("a", now) for now in (2, 3)] == [0, 7]
    window.give_back("a", 1)  # already given back
    window.give_back("b", 1)  # never admitted
    assert window.take("a", 3) == 7


def test_unused_keys_are_forgotten() -> None:
    window = RateWindow(1, 10)
    for number in range(5_000):
        assert window.take(f"key-{number}", number) == 0
    assert len(window._times) < 2_000  # noqa: SLF001 -- it is about memory
