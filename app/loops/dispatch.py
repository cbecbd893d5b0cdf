"""When tasks are sent: on a bell, as places get free, and at least every second."""

import asyncio

from app.loops.crew import Crew
from app.services.dispatch import Dispatch

_GATHER_SECONDS = 0.01


class DispatchLoop:
    """Keeps up to `crew` submits in flight. Claims only what it can send right away."""

    def __init__(self, service: Dispatch, crew: Crew) -> None:
        self._service = service
        self._crew = crew

    async def run_once(self) -> int:
        """Claim and start what may be sent now; returns how many."""
        if self._crew.free <= 0:
            return 0
        if self._crew.busy:
            # Where some have just ended, others are about to: one claim for several costs a fraction of one for each.
            await asyncio.sleep(_GATHER_SECONDS)
        claimed = await self._service.claim(self._crew.free)
        for one in claimed:
            self._crew.start(self._service.send(one))
        return len(claimed)
