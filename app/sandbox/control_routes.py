"""The sandbox's own endpoints, for tests and the curious: what it does, what it saw, a fresh start."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.sandbox.answers import AsciiJson
from app.sandbox.behavior import Behavior, BehaviorError
from app.sandbox.engine import Engine
from app.sandbox.plans import OK
from app.sandbox.tasks import Task


class ControlRoutes:
    """Handlers below `/sandbox`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def routes(self) -> list[Route]:
        """List everything that tells the sandbox what to do."""
        return [
            Route("/sandbox/behaviour", self._behaviour, methods=["GET"]),
            Route("/sandbox/behaviour", self._set_behaviour, methods=["PUT"]),
            Route("/sandbox/submits", self._submits, methods=["GET"]),
            Route("/sandbox/tasks", self._tasks, methods=["GET"]),
            Route("/sandbox/state", self._forget, methods=["DELETE"]),
        ]

    async def _behaviour(self, _: Request) -> Response:
        return AsciiJson(self._engine.behavior.model_dump(mode="json"))

    async def _set_behaviour(self, request: Request) -> Response:
        try:
            behavior = Behavior.from_json(await request.body())
        except BehaviorError as error:
            return AsciiJson({"detail": str(error), "errors": error.problems}, 422)
        self._engine.behavior = behavior
        return AsciiJson(behavior.model_dump(mode="json"))

    async def _submits(self, _: Request) -> Response:
        return AsciiJson(self._engine.store.submits())

    async def _tasks(self, _: Request) -> Response:
        callbacks = self._engine.store.callbacks()
        return AsciiJson([_view(task, callbacks.get(task.id, [])) for task in self._engine.store.tasks()])

    async def _forget(self, _: Request) -> Response:
        await self._engine.forget()
        return Response(status_code=204)


def _view(task: Task, callbacks: list[dict[str, Any]]) -> dict[str, Any]:
    verdict = None if task.finished_at is None else task.plan.verdict
    state = {None: "generating", OK: "succeeded"}.get(verdict, "failed")
    return {
        "task_id": task.id,
        "model": task.order.model,
        "prompt": task.order.prompt,
        "callback_url": task.order.callback_url,
        "state": state,
        "verdict": verdict,
        "created_at": task.created_at,
        "finished_at": task.finished_at,
        "settled": task.settled,
        "callbacks": callbacks,
    }
