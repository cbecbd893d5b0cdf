"""The calls of the upstream that the dispatcher and the reconciler need."""

from typing import Any, Protocol

from app.domain.models import Model
from app.domain.submit_outcome import SubmitOutcome
from app.domain.verdict import Report


class Upstream(Protocol):
    """An upstream; neither call raises for network or vendor errors."""

    async def submit(self, model: Model, task_input: dict[str, Any], callback_url: str) -> SubmitOutcome:
        """Submit a task once and return the outcome."""
        ...

    async def record_info(self, upstream_task_id: str) -> Report:
        """Poll the state of a task."""
        ...
