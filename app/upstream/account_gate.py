"""Whether the upstream account allows sending, and when to check again."""

from functools import partial

import structlog

from app.clock import Clock
from app.db import account_store
from app.domain.account import Account
from app.domain.policy import Policy
from app.domain.submit_outcome import SubmitOutcome
from app.writing.unit_of_work import UnitOfWork
from app.writing.wake_up import WakeUp

CHECK_AGAIN_MS = 1_000
_log = structlog.get_logger(__name__)


class AccountGate:
    """Opens and closes sending. `wake_up` wakes when sending may continue.

    While it is closed, no transaction checks the account: a burst of submits must not become a burst of claims.
    """

    def __init__(self, *, clock: Clock, policy: Policy, wake_up: WakeUp) -> None:
        self._clock = clock
        self._policy = policy
        self._wake_up = wake_up
        self._closed_until = 0

    @property
    def is_closed(self) -> bool:
        """Whether claiming is known to be pointless."""
        return self._clock.now() < self._closed_until

    def close(self, milliseconds: int) -> None:
        """Close for a while, but check again soon: other replicas may reopen the account."""
        pause = min(max(milliseconds, 1), CHECK_AGAIN_MS)
        self._closed_until = self._clock.now() + pause
        self._wake_up.wake_after(pause / 1000)

    def allowance(self, unit: UnitOfWork, limit: int) -> tuple[Account, int]:
        """Return the account, locked unless open, and how many tasks may be sent now."""
        account = account_store.get(unit.connection)
        if not account.is_open:
            account = account_store.get(unit.connection, lock=True)
        allowed = account.allowance(unit.now, limit)
        if not allowed:
            unit.after.append(partial(self.close, account.until - unit.now))
        return account, allowed

    def begin_probe(self, unit: UnitOfWork, account: Account) -> None:
        """Record that a task is sent to probe an account that is not open."""
        account_store.save(unit.connection, account.with_probe(unit.now, self._policy))

    def settle(self, unit: UnitOfWork, outcome: SubmitOutcome) -> None:
        """Apply the outcome of a submit to the account."""
        before = account_store.get(unit.connection)
        if before.after(outcome, unit.now, self._policy) == before:
            return
        before = account_store.get(unit.connection, lock=True)
        after = before.after(outcome, unit.now, self._policy)
        account_store.save(unit.connection, after)
        if after.state is not before.state:
            _log.warning("account", state=after.state.value, reason=after.error.message if after.error else None)
        unit.after.append(self._open if after.is_open else partial(self.close, after.until - unit.now))

    def _open(self) -> None:
        self._closed_until = 0
        self._wake_up.wake()
