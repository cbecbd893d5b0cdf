"""Chooses whose webhooks are sent next: hosts take turns, each with a limit."""

from collections import Counter
from collections.abc import Iterable, Mapping

from app.db import delivery_store
from app.db.engine import Connection, Database
from app.domain.delivery import Delivery

_HOSTS_PER_READ = 500
_MAX_PER_HOST = 4
# A host that didn't respond last time gets one delivery at a time until it does: there may be many such hosts.
_MAX_PER_SILENT_HOST = 1
_MAX_SILENT_HOSTS = 10_000


class HostTurns:
    """Shares deliveries among hosts, so that a slow or busy host doesn't delay the others."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._silent: set[str] = set()
        self._served_last = ""

    async def permits(self, limit: int, in_hand: Iterable[Delivery], now: int) -> Mapping[str, int]:
        """Return how many deliveries to claim per host, dealt out in rounds."""
        busy = Counter(delivery.host for delivery in in_hand)
        due = (await self._database.read(lambda connection: self._due(connection, busy, limit, now)))[:limit]
        permits: Counter[str] = Counter()
        for _ in range(_MAX_PER_HOST):
            for host in due:
                if busy[host] + permits[host] < self._limit_of(host) and permits.total() < limit:
                    permits[host] += 1
        return permits

    def note_served(self, permits: Mapping[str, int]) -> None:
        """Continue after the last of these hosts next time."""
        self._served_last = list(permits)[-1]

    def note_response(self, host: str, *, has_responded: bool) -> None:
        """Remember whether a host responded at all."""
        if has_responded:
            self._silent.discard(host)
        elif len(self._silent) < _MAX_SILENT_HOSTS:
            self._silent.add(host)

    def _due(self, connection: Connection, busy: Counter[str], limit: int, now: int) -> list[str]:
        """List hosts with due deliveries and a free permit, starting after the one served last."""
        seen: set[str] = set()
        due: list[str] = []
        for start in dict.fromkeys((self._served_last, "")):
            after: str | None = start
            while after is not None and len(due) < limit:
                hosts = delivery_store.hosts(connection, after=after, limit=_HOSTS_PER_READ)
                new = [(host, due_at) for host, due_at in hosts if host not in seen]
                seen.update(host for host, _ in new)
                due.extend(host for host, at in new if at <= now and busy[host] < self._limit_of(host))
                after = hosts[-1][0] if new and len(hosts) == _HOSTS_PER_READ else None
        return due

    def _limit_of(self, host: str) -> int:
        return _MAX_PER_SILENT_HOST if host in self._silent else _MAX_PER_HOST
