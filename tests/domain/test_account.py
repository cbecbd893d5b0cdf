"""When the account allows submits, and how outcomes change it."""

import pytest

from app.domain.account import Account, AccountState
from app.domain.submit_outcome import Accepted, AccountRefused, Refused, SubmitOutcome, TryAgain, Unknown
from app.domain.verdict import ErrorCode, TaskError
from tests.support.tasks import POLICY

NOW = 1_000_000
RATE = TaskError(ErrorCode.UPSTREAM_ERROR, "slow down", "429")
CREDITS = TaskError(ErrorCode.INSUFFICIENT_CREDITS, "no credits", "402")
REQUEST = TaskError(ErrorCode.INVALID_REQUEST, "bad prompt", "400")

OPEN = Account()
PAUSED = Account(AccountState.PAUSED, RATE, NOW + 10_000, 1)
HELD = Account(AccountState.HELD, CREDITS, NOW + 60_000)


def slow_down(retry_after: int | None = None) -> TryAgain:
    return TryAgain(RATE, retry_after, pauses_account=True)


def after(account: Account, outcome: SubmitOutcome, now: int = NOW) -> Account:
    return account.after(outcome, now, POLICY)


def test_an_open_account_allows_all_that_is_wanted() -> None:
    assert OPEN.allowance(NOW, 16) == 16


@pytest.mark.parametrize("account", [PAUSED, HELD])
def test_a_closed_account_allows_nothing_and_then_one_probe(account: Account) -> None:
    assert account.allowance(account.until - 1, 16) == 0
    assert account.allowance(account.until, 16) == 1
    assert account.allowance(account.until, 0) == 0


@pytest.mark.parametrize("account", [PAUSED, HELD])
def test_while_a_probe_is_on_its_way_no_other_goes_until_it_must_be_lost(account: Account) -> None:
    probing = account.with_probe(account.until, POLICY)
    assert probing.allowance(account.until + POLICY.upstream_timeout, 16) == 0
    assert probing.allowance(account.until + POLICY.hold_retry, 16) == 1


@pytest.mark.parametrize("account", [PAUSED, HELD])
@pytest.mark.parametrize("outcome", [Accepted("up"), Refused(REQUEST)])
def test_a_probe_that_the_vendor_looked_at_opens_the_account(account: Account, outcome: SubmitOutcome) -> None:
    assert after(account.with_probe(NOW, POLICY), outcome) == OPEN


@pytest.mark.parametrize("account", [PAUSED, HELD])
@pytest.mark.parametrize("outcome", [Accepted("up"), Refused(REQUEST), Unknown("?"), TryAgain(RATE)])
def test_submits_sent_before_the_account_closed_neither_open_it_nor_cut_its_pause_short(
    account: Account, outcome: SubmitOutcome
) -> None:
    assert after(account, outcome) == account


def test_a_late_rate_limit_does_not_cut_a_hold_short() -> None:
    assert after(HELD, slow_down(2_000)) == HELD


@pytest.mark.parametrize("account", [OPEN, PAUSED, HELD])
def test_a_refusal_of_the_account_holds_it(account: Account) -> None:
    held = after(account, AccountRefused(CREDITS))
    assert (held.state, held.error, held.until) == (AccountState.HELD, CREDITS, NOW + POLICY.hold_retry)


@pytest.mark.parametrize("outcome", [Accepted("up"), Refused(REQUEST), Unknown("?"), TryAgain(RATE)])
def test_an_open_account_stays_open(outcome: SubmitOutcome) -> None:
    assert after(OPEN, outcome) == OPEN


@pytest.mark.parametrize("outcome", [Unknown("?"), TryAgain(RATE)])
def test_a_probe_of_a_held_account_that_told_nothing_is_followed_by_another_soon(outcome: SubmitOutcome) -> None:
    probed = after(HELD.with_probe(NOW, POLICY), outcome)
    assert (probed.state, probed.until, probed.probing) == (AccountState.HELD, NOW + 1_000, False)


def test_pauses_double_while_it_goes_on_up_to_a_minute() -> None:
    account, now, pauses = after(OPEN, slow_down()), NOW, []
    for _ in range(9):
        pauses.append(account.until - now)
        now = account.until
        account = after(account.with_probe(now, POLICY), slow_down(), now)
    assert pauses == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]


def test_refusals_that_come_together_are_one_pause() -> None:
    account = OPEN
    for late in range(16):
        account = after(account, slow_down(), NOW + late)
    assert (account.pauses, account.until) == (1, NOW + 15 + 1_000)


def test_the_pause_is_as_long_as_the_vendor_wishes() -> None:
    assert after(OPEN, slow_down(30_000)).until == NOW + 30_000


def test_of_refusals_that_come_together_the_longest_wish_counts() -> None:
    account = after(after(after(OPEN, slow_down(30_000)), slow_down()), slow_down(2_000))
    assert account.until == NOW + 30_000


def test_a_wish_for_no_pause_at_all_still_makes_one() -> None:
    # A date in the past counts as 0. Without a pause, the whole queue would run into the limit.
    assert after(OPEN, slow_down(0)).until == NOW + 1_000


def test_a_pause_begins_small_again_after_a_success() -> None:
    account = after(OPEN, slow_down())
    account = after(account.with_probe(NOW + 1_000, POLICY), slow_down(), NOW + 1_000)
    account = after(account.with_probe(NOW + 3_000, POLICY), Accepted("up"), NOW + 3_000)
    assert after(account, slow_down(), NOW + 4_000).until == NOW + 5_000
