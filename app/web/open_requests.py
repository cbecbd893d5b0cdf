"""Limits on open event streams and waiting requests."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from app.domain.caller import Caller
from app.errors import GatewayError, TooManyOpenRequests, TooManyStreams

_PER_TOKEN = 20
_PER_SUBJECT = 60
# One eighth of the connections stays free for short requests, and one eighth of the open requests for other keys.
_PARTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLimits:
    """Limits on streams and waits together, in one process.

    Requests with a browser token also count toward its subject and the key that created it.
    """

    total: int
    per_key: int
    per_token: int = _PER_TOKEN
    per_subject: int = _PER_SUBJECT

    @classmethod
    def of_connections(cls, connections: int) -> Self:
        """Leave room for short requests and for other keys."""
        total = connections - connections // _PARTS
        return cls(total=total, per_key=total - total // _PARTS)


class OpenRequests:
    """Counts open requests, in total and by holder."""

    def __init__(self, limits: OpenLimits) -> None:
        self.count = 0
        self._limits = limits
        self._of_holders: Counter[tuple[str, ...]] = Counter()

    def refusal(self, caller: Caller) -> GatewayError | None:
        """Return the error if the caller may not open another."""
        if self.count >= self._limits.total:
            return TooManyStreams(f"The limit of {self._limits.total} open requests is reached; try again later.")
        for holder, limit in self._holders(caller).items():
            if self._of_holders[holder] >= limit:
                return TooManyOpenRequests(
                    f"This {holder[0]} has {limit} event streams and waiting requests open, which is the limit; close one."
                )
        return None

    @contextmanager
    def opened(self, caller: Caller) -> Iterator[None]:
        """Count a request while it is open."""
        holders = list(self._holders(caller))
        self.count += 1
        self._of_holders.update(holders)
        try:
            yield
        finally:
            self.count -= 1
            self._of_holders.subtract(holders)
            for holder in holders:
                if not self._of_holders[holder]:
                    del self._of_holders[holder]

    def _holders(self, caller: Caller) -> dict[tuple[str, ...], int]:
        """Return the holders of a caller's requests, with their limits."""
        holders: dict[tuple[str, ...], int] = {}
        if caller.token is not None:
            holders["browser token", caller.token.id] = self._limits.per_token
        if caller.subject is not None:
            holders["subject", caller.project, caller.subject] = self._limits.per_subject
        if caller.key_id is not None:
            holders["API key", caller.key_id] = self._limits.per_key
        return holders
