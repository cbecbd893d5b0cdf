"""Rate limits shared by replicas, as slots in the database."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.db import cluster_state, rate_slot_store
from app.db.engine import Connection

# The upstream's clock and ours run at the same rate but round differently.
_WINDOW_MARGIN_MS = 50


@dataclass(frozen=True, slots=True)
class Slot:
    """A taken slot; it expires at `held_until` unless released earlier."""

    number: int
    held_until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRateLimit:
    """At most `count` calls per window; times in milliseconds.

    A released slot is free after `freed_after`. A slot that is never released, as after a crash, is free after
    `held_for`.
    """

    scope: str
    count: int
    held_for: int
    freed_after: int = 0

    def prepare(self, connection: Connection, now: int) -> None:
        """Create missing slots, and free those held too long."""
        rate_slot_store.ensure(connection, self.scope, self.count)
        self.cap(connection, now)

    def cap(self, connection: Connection, now: int) -> None:
        """Free slots held for longer than any call takes."""
        now = cluster_state.shared_now(connection, now)
        rate_slot_store.cap(connection, self.scope, beyond=now + self.held_for, latest=now + self.freed_after)

    def exhausted_until(self, connection: Connection, now: int) -> int | None:
        """Return when a slot will be free.

        Returns None if one is free now. The time is on this process's clock, in milliseconds.
        """
        shared_now = cluster_state.shared_now(connection, now)
        free_at = rate_slot_store.first_free(connection, self.scope, self.count)
        return None if free_at is None or free_at <= shared_now else now + free_at - shared_now

    def find_free(self, connection: Connection, wanted: int, now: int) -> list[Slot]:
        """Lock up to `wanted` free slots."""
        now = cluster_state.shared_now(connection, now)
        numbers = rate_slot_store.find_free(connection, self.scope, slots=self.count, wanted=wanted, now=now)
        return [Slot(number, now + self.held_for) for number in numbers]

    def next_free_in(self, connection: Connection, now: int) -> int | None:
        """Return the milliseconds until the next taken slot is free.

        Returns None if none is taken.
        """
        now = cluster_state.shared_now(connection, now)
        next_free = rate_slot_store.next_free(connection, self.scope, self.count, after=now)
        return None if next_free is None else next_free - now

    def take(self, connection: Connection, slots: Sequence[Slot]) -> None:
        """Take slots that `find_free` found."""
        if slots:
            rate_slot_store.occupy(connection, self.scope, [slot.number for slot in slots], slots[0].held_until)

    def release(self, connection: Connection, slot: Slot, now: int) -> None:
        """Make a slot free again `freed_after` ms from now.

        Does nothing if the slot expired and another call has taken it.
        """
        free_at = cluster_state.shared_now(connection, now) + self.freed_after
        rate_slot_store.release(connection, self.scope, slot.number, held_until=slot.held_until, free_at=free_at)


def submit_rate_limit(count: int, *, window: int, longest_call: int) -> SharedRateLimit:
    """Limit submits to `count` arrivals upstream in any window.

    A slot stays taken until a full window after the upstream's reply, so two calls with the same slot arrive at
    least a window apart, however long each takes. Until the reply is recorded, or after a crash, the longest possible
    call is assumed.
    """
    window += _WINDOW_MARGIN_MS
    return SharedRateLimit(scope="submit", count=count, held_for=longest_call + window, freed_after=window)
