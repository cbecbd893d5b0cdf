"""Leased work: items this process has claimed and not finished."""

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
"""An item's id, and a number that differs between its claims, such as the attempt."""
_FIRST_PAUSE_SECONDS = 0.5
_MAX_OUTAGE_PAUSE_SECONDS = 2.0
# A write that fails although the database works makes its batch fail, too, so it is retried less often.
_MAX_FAULT_PAUSE_SECONDS = 10.0
_log = structlog.get_logger(__name__)


@dataclass(eq=False)
class LeasedWork(Generic[T]):
    """The items of one `kind` that this process has claimed.

    The database knows the process as `owner`. An item is held from its claim until its work is done. Items are
    distinguished by `key`, so that an attempt that ends late never releases the next attempt on the same row.
    `pause_seconds` is the first pause before writing an outcome again.
    """

    kind: str
    key: Callable[[T], Key]
    clock: Clock
    pause_seconds: float = _FIRST_PAUSE_SECONDS
    owner: str = field(default_factory=lambda: secrets.token_hex(8), init=False)
    _held: dict[Key, tuple[T, asyncio.Event]] = field(default_factory=dict, init=False)
    _claims: set[asyncio.Event] = field(default_factory=set, init=False)
    """One per claim that is being committed; set when the commit has ended."""

    async def claim(self, transaction: Awaitable[Sequence[T]]) -> list[T]:
        """Run a transaction that claims items, and hold them."""
        is_over = asyncio.Event()
        self._claims.add(is_over)
        try:
            claimed = list(await transaction)
            self._held.update((self.key(item), (item, asyncio.Event())) for item in claimed)
        finally:
            self._claims.remove(is_over)
            is_over.set()
        return claimed

    @property
    def items(self) -> list[T]:
        """The held items."""
        return [item for item, _ in self._held.values()]

    @property
    def ids(self) -> frozenset[str]:
        """The held items' ids; safe to read in any thread."""
        return frozenset(item_id for item_id, _ in tuple(self._held))

    def ended(self, item_id: str) -> asyncio.Event | None:
        """Return an event for the end of an item's work.

        None if the item is not held.
        """
        return next((ended for (held_id, _), (_, ended) in self._held.items() if held_id == item_id), None)

    async def lost(self, committed: Sequence[Key]) -> list[Key]:
        """Return committed claims that this process doesn't know of.

        Nobody works on them. A claim may be committed before this process learns of it, so this waits for all claims
        that are being committed.
        """
        unknown = [key for key in committed if key not in self._held]
        if unknown:
            for claim in tuple(self._claims):
                await claim.wait()
        return [key for key in unknown if key not in self._held]

    async def run(
        self, item: T, work: Awaitable[None], put_back: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        """Do the work on an item.

        If canceled, put the item back. If the database is unavailable, the item stays claimed until its lease expires.
        """
        try:
            await work
        except ServiceUnavailable as error:
            _log.warning("work_left_to_lease", kind=self.kind, id=self.key(item)[0], reason=error.detail)
        except asyncio.CancelledError:
            if put_back is not None:
                with suppress(ServiceUnavailable):
                    await put_back()
            raise
        finally:
            self.done(item)

    def done(self, item: T) -> None:
        """Stop holding an item."""
        self._held.pop(self.key(item))[1].set()

    async def record(self, write: Callable[[], Awaitable[R]], *, until: int | None = None) -> R:
        """Write an outcome, retrying on any error.

        After `until` (milliseconds), errors are raised.
        """
        pause = self.pause_seconds
        while True:
            try:
                return await write()
            except Exception as error:
                if until is not None and self.clock.now() >= until:
                    raise
                max_pause = _MAX_OUTAGE_PAUSE_SECONDS
                if not isinstance(error, ServiceUnavailable):
                    max_pause = _MAX_FAULT_PAUSE_SECONDS
                    _log.exception("outcome_not_recorded", kind=self.kind)
            await asyncio.sleep(min(pause, max_pause))
            pause *= 2
