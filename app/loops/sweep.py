"""When things past their time are taken away: every minute, batch by batch."""

from app.services.sweep import Sweep


class SweepLoop:
    """Sweeps until nothing is left to sweep."""

    def __init__(self, service: Sweep) -> None:
        self._service = service

    async def run_once(self) -> int:
        """Sweep one batch; returns how many rows went."""
        return await self._service.idempotency_keys() + await self._service.quota_counts()
