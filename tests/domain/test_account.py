"""When the account allows submits, and how outcomes change it."""

import pytest

from app.domain.account import Account, AccountState
from app.domain.policy import MAX_RETRY_AFTER_MS
from app.domain.submit_outcome import Accepted, AccountRefused, Refused, SubmitOutcome, TryAgain, Unknown
from app.domain.verdict import ErrorCode, TaskError
from tests.support.tasks import POLICY

NOW = 1_000_000
RATE = TaskError(ErrorCode.UPSTREAM_ERROR, "slow down", "429")
SILENCE = TaskError(ErrorCode.UPSTREAM_ERROR, "no reply")
CREDITS = TaskError(ErrorCode.INSUFFICIENT_CREDITS, "no credits", "402")
REQUEST = TaskError(ErrorCode.INVALID_REQUEST, "bad prompt", "400")

OPEN = Account()
SUSPECT = Account(failures=2)
PAUSED = Account(AccountState.PAUSED, RATE, NOW + 10_000, 3)
HELD = Account(AccountState.HELD, CREDITS, NOW + 60_000)
ANSWERS = [Accepted("up"), Refused(REQUEST)]
FAILURES = [Unknown("?"), TryAgain(RATE), TryAgain(RATE, pauses_account=True)]


def slow_down(retry_after: int | None = None) -> TryAgain:
    return TryAgain(RATE, retry_after, pauses_account=True)


def after(account: Account, outcome: SubmitOutcome, now: int = NOW) -> Account:
    """Apply the outcome of an ordinary submit."""
    return account.after(outcome, now, POLICY, is_probe=False)


def probed(account: Account, outcome: SubmitOutcome, now: int = NOW) -> Account:
    return account.with_probe(now, POLICY).after(outcome, now, POLICY, is_probe=True)


def test_an_open_account_allows_all_tasks() -> None:
    assert OPEN.allowance(NOW, 16, POLICY) == 16


@pytest.mark.parametrize("account", [PAUSED, HELD])
def test_a_closed_account_allows_one_probe_after_its_pause(account: Account) -> None:
    assert account.allowance(account.until - 1, 16, POLICY) == 0
    assert account.allowance(account.until, 16, POLICY) == 1
    assert account.allowance(account.until, 0, POLICY) == 0


@pytest.mark.parametrize("account", [PAUSED, HELD])
def test_a_clock_set_back_does_not_extend_the_pause(account: Account) -> None:
    assert account.allowance(account.until - 3_600_000, 16, POLICY) == 1


@pytest.mark.parametrize("account", [PAUSED, HELD])
def test_no_second_probe_is_sent_until_the_first_must_be_lost(account: Account) -> None:
    probing = account.with_probe(account.until, POLICY)
    assert probing.allowance(account.until + POLICY.upstream_timeout, 16, POLICY) == 0
    assert probing.allowance(account.until + POLICY.hold_retry, 16, POLICY) == 1


@pytest.mark.parametrize("account", [PAUSED, HELD])
@pytest.mark.parametrize("outcome", ANSWERS)
def test_a_probe_with_an_answer_opens_the_account(account: Account, outcome: SubmitOutcome) -> None:
    assert probed(account, outcome) == OPEN


@pytest.mark.parametrize("account", [PAUSED, HELD])
@pytest.mark.parametrize("outcome", [*ANSWERS, *FAILURES])
def test_submits_from_before_the_closing_neither_open_the_account_nor_change_its_pause(
    account: Account, outcome: SubmitOutcome
) -> None:
    assert after(account, outcome) == account


def test_a_late_rate_limit_does_not_cut_a_hold_short() -> None:
    assert after(HELD, slow_down(2_000)) == HELD


@pytest.mark.parametrize("account", [OPEN, SUSPECT, PAUSED, HELD])
def test_a_refusal_of_the_account_holds_it(account: Account) -> None:
    held = after(account, AccountRefused(CREDITS))
    assert (held.state, held.error, held.until) == (AccountState.HELD, CREDITS, NOW + POLICY.hold_retry)


@pytest.mark.parametrize("account", [OPEN, SUSPECT])
@pytest.mark.parametrize("outcome", ANSWERS)
def test_an_answer_ends_the_count_of_failures(account: Account, outcome: SubmitOutcome) -> None:
    assert after(account, outcome) == OPEN


@pytest.mark.parametrize("outcome", [Unknown("no reply"), TryAgain(SILENCE)])
def test_the_third_failure_in_a_row_pauses(outcome: SubmitOutcome) -> None:
    account, states = OPEN, []
    for _ in range(3):
        account = after(account, outcome)
        states.append((account.state, account.is_well))
    assert states == [(AccountState.OK, False), (AccountState.OK, False), (AccountState.PAUSED, False)]
    assert (account.error, account.until) == (SILENCE, NOW + POLICY.first_pause)


def test_one_rate_limit_or_missing_connection_pauses_at_once() -> None:
    assert after(OPEN, slow_down()).state is AccountState.PAUSED


@pytest.mark.parametrize("outcome", FAILURES)
def test_a_held_account_with_an_unhealthy_upstream_stays_held_and_is_probed_no_faster(outcome: SubmitOutcome) -> None:
    account = probed(HELD, outcome)
    assert (account.state, account.error, account.failures) == (AccountState.HELD, CREDITS, 1)
    assert account.until == NOW + POLICY.hold_retry


@pytest.mark.parametrize("outcome", FAILURES)
def test_pauses_double_up_to_a_minute(outcome: SubmitOutcome) -> None:
    account, now, pauses = after(OPEN, slow_down()), NOW, []
    for _ in range(8):
        pauses.append(account.until - now)
        now = account.until
        account = probed(account, outcome, now)
    assert pauses == [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]


def test_simultaneous_refusals_cause_one_pause() -> None:
    account = OPEN
    for late in range(16):
        account = after(account, slow_down(), NOW + late)
    assert (account.failures, account.until) == (3, NOW + 2_000)


def test_retry_after_is_respected_within_limits() -> None:
    assert after(OPEN, slow_down(30_000)).until == NOW + 30_000
    assert after(OPEN, slow_down(3_600_000)).until == NOW + MAX_RETRY_AFTER_MS


def test_the_longest_retry_after_of_simultaneous_refusals_counts() -> None:
    account = after(after(after(OPEN, slow_down(30_000)), slow_down()), slow_down(2_000))
    assert account.until == NOW + 30_000


def test_a_retry_after_of_zero_still_causes_a_pause() -> None:
    # A date in the past counts as 0. Without a pause, the whole queue would run into the limit.
    assert after(OPEN, slow_down(0)).until == NOW + 2_000


def test_pauses_start_over_after_a_success() -> None:
    account = after(OPEN, slow_down())
    account = probed(account, slow_down(), NOW + 2_000)
    account = probed(account, Accepted("up"), NOW + 6_000)
    assert after(account, slow_down(), NOW + 7_000).until == NOW + 9_000


@pytest.mark.parametrize(
    ("account", "checked"),
    [
        (Account(AccountState.PAUSED, SILENCE, NOW, 3), [3, 5, 6, 7, 9, 10]),
        (Account(AccountState.PAUSED, RATE, NOW, 3), []),
        (HELD, [3, 5, 6, 7, 9, 10]),
    ],
)
def test_most_probes_of_a_silent_upstream_come_after_a_free_check(account: Account, checked: list[int]) -> None:
    found = []
    outcome = Unknown("no reply") if account.error != RATE else slow_down()
    for number in range(1, 11):
        if account.state is AccountState.HELD:
            account = probed(account, outcome)
        if account.needs_check:
            found.append(number)
        if account.state is AccountState.PAUSED:
            account = probed(account, outcome)
    assert found == checked


def test_an_open_account_needs_no_check() -> None:
    assert not OPEN.needs_check
    assert not SUSPECT.needs_check
