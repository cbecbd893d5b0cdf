"""Chooses the hosts that receive the next webhooks."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from app.db import delivery_store
from app.db.engine import Connection, Database
from app.domain.delivery import Delivery

_HOSTS_PER_READ = 500
_FAIR_SHARE = 4
# A host that didn't respond last time gets one delivery at a time: many hosts may be silent.
_MAX_PER_SILENT_HOST = 1
_MAX_REMEMBERED_HOSTS = 10_000
# A host is healthy for a minute after it accepted a webhook this quickly.
_HEALTHY_LATENCY_MS = 2_000
_HEALTHY_SECONDS = 60


class HostTurns:
    """Shares `workers` among hosts, so none delays the others.

    Hosts take turns. Each host gets up to four workers. A healthy host gets more, up to the number still free, so that
    some always stay free. All other hosts together get at most half.
    """

    def __init__(self, database: Database, workers: int) -> None:
        self._database = database
        self._workers = workers
        self._silent: set[str] = set()
        self._healthy_until: dict[str, float] = {}
        self._served_last = ""

    async def permits(self, free: int, in_hand: Iterable[Delivery], now: int) -> Mapping[str, int]:
        """Return how many deliveries to claim per host.

        They are at most `free` in total.
        """
        busy = Counter(delivery.host for delivery in in_hand)
        unproven = self._workers // 2 - sum(count for host, count in busy.items() if not self._is_healthy(host))
        due = await self._database.read(lambda connection: self._due(connection, busy, free, unproven, now))
        return self._deal(due, busy, free, unproven)

    def note_served(self, permits: Mapping[str, int]) -> None:
        """Continue after the last of these hosts next time."""
        self._served_last = list(permits)[-1]

    def note_response(self, host: str, *, has_responded: bool, is_success: bool, latency_ms: int) -> None:
        """Remember whether a host responded and whether it is healthy."""
        self._healthy_until.pop(host, None)
        if is_success and latency_ms <= _HEALTHY_LATENCY_MS:
            # Hosts are ordered by when they expire, so the first one is the oldest.
            self._healthy_until[host] = time.monotonic() + _HEALTHY_SECONDS
            if len(self._healthy_until) > _MAX_REMEMBERED_HOSTS:
                del self._healthy_until[next(iter(self._healthy_until))]
        if has_responded:
            self._silent.discard(host)
        elif len(self._silent) < _MAX_REMEMBERED_HOSTS:
            self._silent.add(host)

    def _due(self, connection: Connection, busy: Counter[str], free: int, unproven: int, now: int) -> list[str]:
        """List hosts with due deliveries and free permits.

        Lists up to `free` hosts, starting after the one served last. At most `unproven` of them are not healthy.
        """
        seen: set[str] = set()
        due: list[str] = []
        for start in dict.fromkeys((self._served_last, "")):
            after: str | None = start
            while after is not None and len(due) < free:
                hosts = delivery_store.hosts(connection, after=after, limit=_HOSTS_PER_READ)
                new = [(host, due_at) for host, due_at in hosts if host not in seen]
                seen.update(host for host, _ in new)
                for host, due_at in new:
                    is_healthy = self._is_healthy(host)
                    if due_at <= now and busy[host] < self._limit_of(host, free) and (is_healthy or unproven > 0):
                        due.append(host)
                        unproven -= not is_healthy
                after = hosts[-1][0] if new and len(hosts) == _HOSTS_PER_READ else None
        return due[:free]

    def _deal(self, due: Sequence[str], busy: Counter[str], free: int, unproven: int) -> Mapping[str, int]:
        """Deal fair shares first, then more to healthy hosts."""
        permits: Counter[str] = Counter()
        for share in (_FAIR_SHARE, self._workers):
            was_dealt = True
            while was_dealt:
                was_dealt = False
                for host in due:
                    left = free - permits.total()
                    is_healthy = self._is_healthy(host)
                    has_claim = busy[host] + permits[host] < min(share, self._limit_of(host, left))
                    if left and has_claim and (is_healthy or unproven > 0):
                        permits[host] += 1
                        unproven -= not is_healthy
                        was_dealt = True
        return permits

    def _limit_of(self, host: str, free: int) -> int:
        if host in self._silent:
            return _MAX_PER_SILENT_HOST
        return max(_FAIR_SHARE, free) if self._is_healthy(host) else _FAIR_SHARE

    def _is_healthy(self, host: str) -> bool:
        return self._healthy_until.get(host, 0.0) > time.monotonic()
