"""Fetching pictures from addresses that somebody else chose."""

from dataclasses import dataclass
from pathlib import Path

from app.domain.destination import DestinationRules
from app.outbound.connect import Resolve


@dataclass(frozen=True, slots=True)
class Download:
    """What was written: its SHA-256 in lower-case hex, and how many bytes."""

    sha256: str
    bytes: int


class DownloadFailed(Exception):
    """Nothing whole was fetched. `may_recover` says whether to try again, `retry_after` in seconds if the source said."""

    def __init__(self, reason: str, *, may_recover: bool, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.may_recover = may_recover
        self.retry_after = retry_after


class Downloads:
    """Fetches URLs of strangers. `trusted_origin` (`http://127.0.0.1:PORT`) may be fetched from though on loopback."""

    def __init__(
        self,
        rules: DestinationRules,
        *,
        trusted_origin: str | None = None,
        resolve: Resolve | None = None,
        total_seconds: float = 60,
        stall_seconds: float = 15,
    ) -> None:
        self._rules = rules

    async def fetch(self, url: str, into: Path, *, max_bytes: int) -> Download:
        """Write what a URL has to a file; raises `DownloadFailed`."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the connections."""
        raise NotImplementedError
