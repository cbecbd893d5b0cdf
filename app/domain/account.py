"""The upstream account: open, paused briefly, or held because the vendor refuses it.

While it is not open, one probe at a time is sent instead of every queued task. Times are in milliseconds.
"""

from dataclasses import dataclass, replace

from app.domain.policy import Policy
from app.domain.submit_outcome import Accepted, AccountRefused, Refused, SubmitOutcome, TryAgain
from app.domain.verdict import TaskError
from app.domain.words import Word

_FIRST_PAUSE_MS, _MAX_PAUSE_MS = 1_000, 60_000


class AccountState(Word):
    """Whether tasks may be sent."""

    OK = "ok"
    PAUSED = "paused"  # a rate limit or no connection: ends without intervention
    HELD = "held"  # key or credits refused: the operator has to act


@dataclass(frozen=True, slots=True)
class Account:
    """The account's state; unless open, `until` is when the next probe may be sent.

    `probing` means that a probe is in flight; `pauses` counts consecutive pauses.
    """

    state: AccountState = AccountState.OK
    error: TaskError | None = None
    until: int = 0
    pauses: int = 0
    probing: bool = False

    @property
    def is_open(self) -> bool:
        """Whether tasks may be sent freely."""
        return self.state is AccountState.OK

    def allowance(self, now: int, wanted: int) -> int:
        """Return how many tasks may be claimed now: all wanted, one probe, or none."""
        if self.is_open:
            return wanted
        return min(wanted, 1) if now >= self.until else 0

    def with_probe(self, now: int, policy: Policy) -> "Account":
        """Record that a probe is in flight; without an outcome, another may follow later."""
        return replace(self, until=now + max(policy.hold_retry, policy.upstream_timeout), probing=True)

    def after(self, outcome: SubmitOutcome, now: int, policy: Policy) -> "Account":
        """Apply the outcome of a submit."""
        match outcome:
            case AccountRefused(error):
                return Account(AccountState.HELD, error, now + policy.hold_retry)
            case TryAgain(error, retry_after, pauses_account=True) if self.state is not AccountState.HELD:
                return self._paused(error, retry_after, now)
        if self.is_open or not self.probing:
            # Sent before the account closed, so it says nothing about the reason.
            return self
        match outcome:
            case Accepted() | Refused():
                # The vendor judged the request itself, so the account is fine.
                return Account()
            case TryAgain(_, retry_after, pauses_account=True):
                return replace(self, until=now + (retry_after or _FIRST_PAUSE_MS), probing=False)
            case TryAgain() if self.state is AccountState.PAUSED:
                return Account()
        # An unknown outcome or a vendor failure says nothing about the account: probe again soon.
        return replace(self, until=min(self.until, now + _FIRST_PAUSE_MS), probing=False)

    def _paused(self, error: TaskError, retry_after: int | None, now: int) -> "Account":
        # Submits in flight are refused together: that is one pause, the longest that any of them requires.
        is_next = self.is_open or self.probing
        pauses = self.pauses + 1 if is_next else self.pauses
        # Without `Retry-After`, or with one that is in the past by our clock.
        pause = retry_after or min(_FIRST_PAUSE_MS << min(pauses - 1, 16), _MAX_PAUSE_MS)
        until = now + pause if is_next else max(self.until, now + pause)
        return Account(AccountState.PAUSED, error, until, pauses)
