"""When tasks are sent: on a bell, as places get free, and at least every second."""

from app.loops.crew import Crew
from app.services.dispatch import Dispatch


class DispatchLoop:
    """Keeps up to `crew` submits in flight. Claims only what it can send right away."""

    def __init__(self, service: Dispatch, crew: Crew) -> None:
        self._service = service
        self._crew = crew

    async def run_once(self) -> int:
        """Claim and start what may be sent now; returns how many."""
        if self._crew.free <= 0:
            return 0
        claimed = await self._service.claim(self._crew.free)
        for one in claimed:
            self._crew.start(self._service.send(one))
        return len(claimed)
