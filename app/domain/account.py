"""The upstream account, which decides whether tasks may be sent.

While it is closed, only one probe at a time is sent. Times are in milliseconds.
"""

from dataclasses import dataclass, replace

from app.domain.policy import Policy
from app.domain.submit_outcome import Accepted, AccountRefused, Refused, SubmitOutcome, TryAgain, Unknown
from app.domain.verdict import ErrorCode, TaskError
from app.domain.words import Word

# One or two failures may be about a task or a connection. The third in a row is an outage.
_TOLERATED = 2


class AccountState(Word):
    """Whether tasks may be sent."""

    OK = "ok"
    PAUSED = "paused"  # the upstream is unhealthy or limits the rate; ends without intervention
    HELD = "held"  # key or credits refused; the operator has to act


@dataclass(frozen=True, slots=True)
class Account:
    """The account's state.

    Unless it is open, `until` is when the next probe may be sent. `failures` counts consecutive outcomes that show an
    unhealthy upstream. Only an answer about a task resets it.
    """

    state: AccountState = AccountState.OK
    error: TaskError | None = None
    until: int = 0
    failures: int = 0

    @property
    def is_open(self) -> bool:
        """Whether tasks may be sent freely."""
        return self.state is AccountState.OK

    @property
    def is_well(self) -> bool:
        """Whether it is open, without failures since the last answer."""
        return self.is_open and not self.failures

    @property
    def needs_check(self) -> bool:
        """Whether a free call must succeed before the next probe.

        While the upstream is silent, each probe may cost its task. Probes 1, 2, 4, 8 and so on skip the check, in case
        only the check fails.
        """
        pauses = self.failures if self.state is AccountState.HELD else self.failures - _TOLERATED
        is_silent = self.state is AccountState.HELD or (self.error is not None and self.error.upstream_code is None)
        is_power_of_two = pauses & (pauses - 1) == 0
        return not self.is_open and pauses > 0 and is_silent and not is_power_of_two

    def allowance(self, now: int, wanted: int, policy: Policy) -> int:
        """Return how many tasks may be claimed now."""
        if self.is_open:
            return wanted
        # A time beyond the longest pause was written before the clock was set back.
        return 0 if now < self.until <= now + policy.longest_hold else min(wanted, 1)

    def with_probe(self, now: int, policy: Policy) -> "Account":
        """Record that a probe is in flight."""
        # If no outcome is recorded, another probe may follow. A probe may consist of two calls.
        return replace(self, until=now + max(policy.hold_retry, 2 * policy.upstream_timeout))

    def after(self, outcome: SubmitOutcome, now: int, policy: Policy, *, is_probe: bool) -> "Account":
        """Apply the outcome of a submit."""
        match outcome:
            case AccountRefused(error):
                return Account(AccountState.HELD, error, now + policy.hold_retry)
            case _ if not self.is_open and not is_probe:
                return self._after_late(outcome, now, policy)
            case Accepted() | Refused():
                # The vendor judged the request itself, so the account is fine.
                return Account()
            case TryAgain(error, retry_after, pauses_account):
                return self._after_failure(error, now, policy, retry_after, pauses_at_once=pauses_account)
            case Unknown(reason):
                return self._after_failure(TaskError(ErrorCode.UPSTREAM_ERROR, reason), now, policy)

    def _after_late(self, outcome: SubmitOutcome, now: int, policy: Policy) -> "Account":
        """Apply the outcome of a submit from before the closing."""
        if self.state is AccountState.PAUSED and isinstance(outcome, TryAgain) and outcome.retry_after:
            # It can only lengthen the pause.
            return replace(self, until=max(self.until, now + policy.unwell_pause(1, outcome.retry_after)))
        return self

    def _after_failure(
        self,
        error: TaskError,
        now: int,
        policy: Policy,
        retry_after: int | None = None,
        *,
        pauses_at_once: bool = False,
    ) -> "Account":
        failures = self.failures + 1
        if self.state is AccountState.HELD:
            pause = max(policy.hold_retry, policy.unwell_pause(failures, retry_after))
            return replace(self, until=now + pause, failures=failures)
        if pauses_at_once:
            failures = max(failures, _TOLERATED + 1)
        if self.is_open and failures <= _TOLERATED:
            return Account(failures=failures)
        pause = policy.unwell_pause(failures - _TOLERATED, retry_after)
        return Account(AccountState.PAUSED, error, now + pause, failures)
