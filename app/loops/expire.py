"""When tasks are given up."""

from app.services.dispatch import Dispatch
from app.services.reconcile import Reconcile


class ExpireLoop:
    """Ends what has waited beyond its deadline."""

    def __init__(self, reconcile: Reconcile, dispatch: Dispatch) -> None:
        self._reconcile = reconcile
        self._dispatch = dispatch

    async def run_once(self) -> int:
        """End one batch of overdue tasks; returns how many ended or were put back."""
        return await self._reconcile.expire() + await self._dispatch.release_strays()
