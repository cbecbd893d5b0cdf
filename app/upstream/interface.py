"""The upstream's interface for the dispatcher and the reconciler."""

from typing import Any, Protocol

from app.domain.models import Model
from app.domain.submit_outcome import SubmitOutcome
from app.domain.verdict import Report, TaskError, Unanswered


class Upstream(Protocol):
    """An upstream; no call raises for network or vendor errors."""

    async def submit(self, model: Model, task_input: dict[str, Any], callback_url: str) -> SubmitOutcome:
        """Submit a task once and return the outcome."""
        ...

    async def record_info(self, upstream_task_id: str) -> Report | Unanswered:
        """Poll the state of a task."""
        ...

    async def check(self) -> TaskError | None:
        """Make a free call; returns the error if it fails."""
        ...
