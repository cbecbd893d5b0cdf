"""Decides whether the upstream account currently allows sending."""

import time
from collections.abc import Callable
from functools import partial

import structlog

from app.clock import isoformat
from app.db import account_store
from app.domain.account import Account
from app.domain.policy import Policy
from app.domain.submit_outcome import SubmitOutcome
from app.writing.unit_of_work import UnitOfWork
from app.writing.wake_up import WakeUp

CHECK_AGAIN_MS = 1_000
_log = structlog.get_logger(__name__)


class AccountGate:
    """Opens and closes sending; wakes `wake_up` when sending may continue.

    While it is closed, no transaction checks the account, so that a burst of submits doesn't become a burst of claims.
    `timer` is a monotonic clock, which is never set.
    """

    def __init__(self, *, policy: Policy, wake_up: WakeUp, timer: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._wake_up = wake_up
        self._timer = timer
        self._closed_until = 0.0
        self._last_seen = Account()

    @property
    def is_closed(self) -> bool:
        """Whether claiming is known to be pointless."""
        return self._timer() < self._closed_until

    def close(self, milliseconds: int) -> None:
        """Close for this time, but for at most a second."""
        # Other replicas may reopen the account.
        pause = min(max(milliseconds, 1), CHECK_AGAIN_MS) / 1000
        self._closed_until = self._timer() + pause
        self._wake_up.wake_after(pause)

    def allowance(self, unit: UnitOfWork, limit: int) -> tuple[Account, int]:
        """Return the account and how many tasks may be sent.

        The account's row is locked unless the account is open.
        """
        account = account_store.get(unit.connection)
        if not account.is_open:
            account = account_store.get(unit.connection, lock=True)
        self._last_seen = account
        allowed = account.allowance(unit.now, limit, self._policy)
        if not allowed:
            unit.after.append(partial(self.close, account.until - unit.now))
        return account, allowed

    def begin_probe(self, unit: UnitOfWork, account: Account) -> None:
        """Record that a task probes a closed account."""
        account_store.save(unit.connection, account.with_probe(unit.now, self._policy))

    @property
    def has_seen_failures(self) -> bool:
        """Whether the account was unhealthy when last read."""
        return not self._last_seen.is_well

    def settle(self, unit: UnitOfWork, outcome: SubmitOutcome, *, is_probe: bool) -> bool:
        """Apply an outcome; return whether the upstream was healthy before."""
        before = account_store.get(unit.connection)
        if before.after(outcome, unit.now, self._policy, is_probe=is_probe) == before:
            return before.is_well
        before = account_store.get(unit.connection, lock=True)
        after = before.after(outcome, unit.now, self._policy, is_probe=is_probe)
        account_store.save(unit.connection, after)
        self._last_seen = after
        if after.state is not before.state:
            unit.after.append(partial(_report, after))
        unit.after.append(self._open if after.is_open else partial(self.close, after.until - unit.now))
        return before.is_well

    def _open(self) -> None:
        self._closed_until = 0.0
        self._wake_up.wake()


def _report(account: Account) -> None:
    reason = account.error.message if account.error else None
    until = None if account.is_open else isoformat(account.until)
    _log.warning("account", state=account.state.value, reason=reason, until=until)
