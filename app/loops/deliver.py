"""When webhooks are posted: on a bell, as places get free, and at least every second."""

from app.loops.crew import Crew
from app.services.deliver import Deliver


class DeliverLoop:
    """Keeps up to `crew` webhooks in flight. Claims only what it can post right away."""

    def __init__(self, service: Deliver, crew: Crew) -> None:
        self._service = service
        self._crew = crew

    async def run_once(self) -> int:
        """Claim and start what is due now; returns how many."""
        if self._crew.free <= 0:
            return 0
        claimed = await self._service.claim(self._crew.free)
        for delivery in claimed:
            self._crew.start(self._service.send(delivery))
        return len(claimed)
