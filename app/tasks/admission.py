"""Whether one more task is let in: by the rate of its key, and by the quotas that are counted where it is committed."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from app.clock import Clock
from app.db import quota_store
from app.db.engine import Database
from app.domain import quota
from app.domain.browser_token import BrowserToken
from app.domain.quota import Quota
from app.domain.rate import RateWindow
from app.errors import RateLimited
from app.writing.single_flight import Refresh


@dataclass(frozen=True, slots=True)
class Place:
    """What a submit that was let in has taken of its key's rate, and the quotas that its task has to fit into."""

    quotas: tuple[Quota, ...]
    key_id: str | None
    taken_at: float


class Admission:
    """Judges submits. `rate` is N and S of `KEY_RATE_LIMIT`, for this process alone; `monotonic` tells seconds."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        rate: tuple[int, float] | None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._clock = clock
        self._monotonic = monotonic
        self._rate = rate
        self._window = RateWindow(*rate) if rate is not None else None
        self._budgets: dict[str, int] = {}
        self._budgets_read = Refresh(self._read_budgets, monotonic)

    async def admit(self, *, project: str, key_id: str | None, token: BrowserToken | None) -> Place:
        """Let a submit in: it counts for its key, unless what was taken is given back.

        Raises `RateLimited`, and `ServiceUnavailable` if the budgets can't be read.
        """
        await self._budgets_read.refresh()
        quotas: tuple[Quota, ...] = () if token is None else (quota.of_token(token),)
        budget = self._budgets.get(project)
        if budget is not None:
            quotas = (*quotas, quota.of_day(project, budget, self._clock.now()))
        now = self._monotonic()
        if self._window is not None and self._rate is not None and key_id is not None:
            wait = self._window.take(key_id, now)
            if wait > 0:
                count, seconds = self._rate
                message = f"This API key may bring {count} tasks in any {seconds:g} seconds."
                raise RateLimited(message, retry_after=math.ceil(wait))
        return Place(quotas, key_id, now)

    def give_back(self, place: Place) -> None:
        """Take back what a submit has taken of its key's rate: it brought no task.

        Otherwise a page whose token is used up could use up the rate of all that share the key.
        """
        if self._window is not None and place.key_id is not None:
            self._window.give_back(place.key_id, place.taken_at)

    async def _read_budgets(self) -> None:
        self._budgets = await self._database.read(quota_store.daily_budgets)
