"""When the upstream is asked about silent tasks, and when the others are given up."""

from app.loops.crew import Crew
from app.services.dispatch import Dispatch
from app.services.reconcile import Reconcile


class AskLoop:
    """Keeps up to `crew` questions in flight."""

    def __init__(self, service: Reconcile, crew: Crew) -> None:
        self._service = service
        self._crew = crew

    async def run_once(self) -> int:
        """Claim and start what is to be asked now; returns how many."""
        if self._crew.free <= 0:
            return 0
        due = await self._service.claim(self._crew.free)
        for task in due:
            self._crew.start(self._service.ask(task))
        return len(due)


class ExpireLoop:
    """Ends what has waited beyond its deadline."""

    def __init__(self, reconcile: Reconcile, dispatch: Dispatch) -> None:
        self._reconcile = reconcile
        self._dispatch = dispatch

    async def run_once(self) -> int:
        """End one batch of overdue tasks; returns how many ended or were put back."""
        return await self._reconcile.expire() + await self._dispatch.release_strays()
