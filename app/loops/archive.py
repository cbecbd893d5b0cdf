"""When images are fetched: on a bell, as places get free, and at least every second."""

from app.loops.crew import Crew
from app.services.archive import Archive


class ArchiveLoop:
    """Keeps up to `crew` images on their way. Claims only what it can fetch right away."""

    def __init__(self, service: Archive, crew: Crew) -> None:
        self._service = service
        self._crew = crew

    async def run_once(self) -> int:
        """Claim and start what is due now; returns how many."""
        if self._crew.free <= 0:
            return 0
        claimed = await self._service.claim(self._crew.free)
        for image in claimed:
            self._crew.start(self._service.fetch(image))
        return len(claimed)
