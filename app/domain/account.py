"""The upstream account: open, paused for a moment, or held because the vendor refuses it.

While it is not open nothing is sent but one probe at a time, so that a thousand queued tasks don't each find out
anew. Pure rules; times in milliseconds.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from app.domain.policy import Policy
from app.domain.submit_outcome import Accepted, AccountRefused, Refused, SubmitOutcome, TryAgain
from app.domain.verdict import TaskError

_FIRST_PAUSE, _MAX_PAUSE = 1_000, 60_000


class AccountState(StrEnum):
    """Whether tasks may be sent."""

    OK = "ok"
    PAUSED = "paused"  # a rate limit, or no connection: passes by itself
    HELD = "held"  # key or credits refused: somebody has to do something


@dataclass(frozen=True, slots=True)
class Account:
    """The account's state; when it is not open, `until` is when the next probe may be sent.

    `probing` says that a probe is on its way, `pauses` how many pauses came one after the other.
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
        """How many tasks may be claimed now: all that are wanted, one probe, or none."""
        if self.is_open:
            return wanted
        return min(wanted, 1) if now >= self.until else 0

    def with_probe(self, now: int, policy: Policy) -> "Account":
        """Note that a probe is on its way; if nobody reports on it, another may follow after a while."""
        return replace(self, until=now + max(policy.hold_retry, policy.upstream_timeout), probing=True)

    def after(self, outcome: SubmitOutcome, now: int, policy: Policy) -> "Account":
        """Judge the account by what came of a submit."""
        match outcome:
            case AccountRefused(error):
                return Account(AccountState.HELD, error, now + policy.hold_retry)
            case TryAgain(error, retry_after, pauses_account=True) if self.state is not AccountState.HELD:
                return self._paused(error, retry_after, now)
        if self.is_open or not self.probing:
            # Submits that left before the account closed know nothing of what closed it.
            return self
        match outcome:
            case Accepted() | Refused():
                # The vendor looked at the request itself, so the account is fine.
                return Account()
            case TryAgain(_, retry_after, pauses_account=True):
                return replace(self, until=now + (retry_after or _FIRST_PAUSE), probing=False)
            case TryAgain() if self.state is AccountState.PAUSED:
                return Account()
        # An unknown outcome, or the vendor's own trouble, says nothing about the account. A probe that ended so
        # is followed by another soon.
        return replace(self, until=min(self.until, now + _FIRST_PAUSE), probing=False)

    def _paused(self, error: TaskError, retry_after: int | None, now: int) -> "Account":
        # Many submits in flight are refused together: that is one pause, as long as the longest of them wishes.
        is_next = self.is_open or self.probing
        pauses = self.pauses + 1 if is_next else self.pauses
        # No wish, or one for no pause at all (a date that has passed by our clock).
        pause = retry_after or min(_FIRST_PAUSE << min(pauses - 1, 16), _MAX_PAUSE)
        until = now + pause if is_next else max(self.until, now + pause)
        return Account(AccountState.PAUSED, error, until, pauses)
