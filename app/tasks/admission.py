"""Checks new tasks against rate limits and quotas."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from app.clock import Clock
from app.db import quota_store
from app.db.engine import Database
from app.domain import quota
from app.domain.caller import Caller
from app.domain.quota import Quota
from app.domain.rate import RateWindow
from app.errors import RateLimited
from app.writing.single_flight import Refresh


@dataclass(frozen=True, slots=True)
class Admitted:
    """An admitted submit, with its quotas and rate accounting."""

    quotas: tuple[Quota, ...]
    key_id: str | None
    counted_at: float


@dataclass(eq=False, kw_only=True)
class Admission:
    """Checks submits against limits.

    `rate` is the count and the seconds of `KEY_RATE_LIMIT`, which applies to this process alone. `monotonic` returns
    seconds.
    """

    database: Database
    clock: Clock
    rate: tuple[int, float] | None
    monotonic: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._window = RateWindow(*self.rate) if self.rate is not None else None
        self._budgets: dict[str, int] = {}
        self._budgets_read = Refresh(self._read_budgets, self.monotonic)

    async def admit(self, caller: Caller) -> Admitted:
        """Admit a submit, which counts toward the rate until refunded.

        Quotas are charged later, in the transaction that creates the task. Raises `RateLimited`, and
        `ServiceUnavailable` if the budgets can't be read.
        """
        await self._budgets_read.refresh()
        quotas: tuple[Quota, ...] = () if caller.token is None else (quota.of_token(caller.token),)
        budget = self._budgets.get(caller.project)
        if budget is not None:
            quotas = (*quotas, quota.of_day(caller.project, budget, self.clock.now()))
        now = self.monotonic()
        if self._window is not None and self.rate is not None and caller.key_id is not None:
            wait = self._window.take(caller.key_id, now)
            if wait > 0:
                count, seconds = self.rate
                message = f"This API key is limited to {count} tasks per {seconds:g} seconds."
                raise RateLimited(message, retry_after=math.ceil(wait))
        return Admitted(quotas, caller.key_id, now)

    def refund(self, admitted: Admitted) -> None:
        """Stop counting a submit that created no task.

        Otherwise a page whose token is used up could exhaust the rate of everyone who shares its key.
        """
        if self._window is not None and admitted.key_id is not None:
            self._window.give_back(admitted.key_id, admitted.counted_at)

    async def _read_budgets(self) -> None:
        self._budgets = await self.database.read(quota_store.daily_budgets)
