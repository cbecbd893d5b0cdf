"""Leased work: what this process has claimed in the database, from the claim to the recorded outcome."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

from app.clock import Clock
from app.errors import ServiceUnavailable

T = TypeVar("T")
R = TypeVar("R")
Key = tuple[str, int]
"""An item's id and a number that differs between its claims, such as the attempt."""
_FIRST_PAUSE_SECONDS = 0.5
_MAX_OUTAGE_PAUSE_SECONDS = 2.0
# A write that fails while the database works fails the batch it is in, too, so it is repeated less often.
_MAX_FAULT_PAUSE_SECONDS = 10.0
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _InHand(Generic[T]):
    item: T
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class LeasedWork(Generic[T]):
    """Claims of one `kind` by this process, which is called `owner` in the database.

    An item is in hand from its claim until its work is done. Items are told apart by `key`, so that the late end of
    one attempt never frees the next attempt on the same row. `pause_seconds` is the first pause before an outcome that
    could not be recorded is written again.
    """

    def __init__(
        self, kind: str, key: Callable[[T], Key], *, clock: Clock, pause_seconds: float = _FIRST_PAUSE_SECONDS
    ) -> None:
        self.owner = secrets.token_hex(8)
        self._kind = kind
        self._key = key
        self._clock = clock
        self._pause_seconds = pause_seconds
        self._in_hand: dict[Key, _InHand[T]] = {}
        self._claims_since: list[int] = []
        """When the claims that are not committed yet, as far as this process knows, began."""

    async def claim(self, transaction: Awaitable[Sequence[T]]) -> list[T]:
        """Run a transaction that claims items and take them in hand."""
        began = self._clock.now()
        self._claims_since.append(began)
        try:
            claimed = list(await transaction)
            # Before the claim is no longer awaited: a thread must never find neither.
            self._in_hand.update((self._key(item), _InHand(item)) for item in claimed)
        finally:
            self._claims_since.remove(began)
        return claimed

    @property
    def items(self) -> list[T]:
        """The items in hand."""
        return [held.item for held in self._in_hand.values()]

    @property
    def ids(self) -> frozenset[str]:
        """The ids of the items in hand; safe to read from a transaction's thread."""
        return frozenset(item_id for item_id, _ in tuple(self._in_hand))

    def ended(self, item_id: str) -> asyncio.Event | None:
        """Return the event that is set when the work on this item is done; None if it is not in hand."""
        return next((held.ended for (held_id, _), held in self._in_hand.items() if held_id == item_id), None)

    def is_lost(self, key: Key, claimed_at: int) -> bool:
        """Whether a claim by this process was committed without the process learning of it.

        So work on it has not begun. A claim whose commit is still awaited is not lost. Safe to call from a
        transaction's thread.
        """
        # In this order: a claim comes in hand before it is no longer awaited.
        return all(since > claimed_at for since in tuple(self._claims_since)) and key not in self._in_hand

    async def run(
        self, item: T, work: Awaitable[None], put_back: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        """Do the work on an item that has a lease; if cancelled, put the item back.

        If the database stays away, the item is left to whichever process claims it after its lease.
        """
        try:
            await work
        except ServiceUnavailable as error:
            _log.warning("work_left_to_lease", kind=self._kind, id=self._key(item)[0], reason=error.detail)
        except asyncio.CancelledError:
            if put_back is not None:
                with suppress(ServiceUnavailable):
                    await put_back()
            raise
        finally:
            self.done(item)

    def done(self, item: T) -> None:
        """Take an item out of hand."""
        self._in_hand.pop(self._key(item)).ended.set()

    async def record(self, write: Callable[[], Awaitable[R]], *, until: int | None = None) -> R:
        """Write an outcome, again and again while that fails.

        With `until` (milliseconds), the first failure after that time is raised.
        """
        pause = self._pause_seconds
        while True:
            try:
                return await write()
            except Exception as error:
                if until is not None and self._clock.now() >= until:
                    raise
                longest = _MAX_OUTAGE_PAUSE_SECONDS
                if not isinstance(error, ServiceUnavailable):
                    longest = _MAX_FAULT_PAUSE_SECONDS
                    _log.exception("outcome_not_recorded", kind=self._kind)
            await asyncio.sleep(min(pause, longest))
            pause *= 2
