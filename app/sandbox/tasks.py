"""Tasks as the sandbox keeps them."""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

from app.sandbox.orders import Order
from app.sandbox.plans import TaskPlan


@dataclass(frozen=True, slots=True)
class Task:
    """An accepted order, what is planned for it, and how far it got. Times are unix seconds."""

    id: str
    order: Order
    plan: TaskPlan
    created_at: float
    finished_at: float | None = None
    notices_sent: int = 0
    settled: bool = False
    """Whether nothing is left to do: finished, and every notice delivered or given up."""

    @property
    def ready_at(self) -> float | None:
        """When the verdict falls; None for never."""
        return None if self.plan.delay is None else self.created_at + self.plan.delay

    def finished(self, at: float) -> Self:
        """Return the same task with its verdict out."""
        return replace(self, finished_at=at)

    def document(self) -> str:
        """Return the part that never changes, as JSON in ASCII (prompts may hold what no encoding can)."""
        return json.dumps({"order": asdict(self.order), "plan": asdict(self.plan)})

    @classmethod
    def restore(cls, document: str, **state: Any) -> Self:
        """Rebuild a task from its document and its state."""
        parts = json.loads(document)
        order, plan = parts["order"], parts["plan"]
        return cls(
            order=Order(**{**order, "image_urls": tuple(order["image_urls"])}),
            plan=TaskPlan(**{**plan, "notices": tuple(plan["notices"])}),
            **state,
        )
