"""An HTTP client of gateways."""

from typing import Any

import httpx

from tests.support.clients.connections import KEPT_BRIEFLY
from tests.support.waiting import until

TERMINAL = {"succeeded", "failed", "canceled"}


class TaskClient(httpx.Client):
    """An HTTP client of a local gateway with task helpers."""

    def __init__(self, base_url: str) -> None:
        super().__init__(base_url=base_url, timeout=30, limits=KEPT_BRIEFLY, verify=False, trust_env=False)

    def submit(self, **body: Any) -> dict[str, Any]:
        response = self.post("/v1/tasks", json={"prompt": "a lake at sunset", **body})
        assert response.status_code == 202, response.text
        task: dict[str, Any] = response.json()
        return task

    def task(self, task_id: str, *, wait: float = 0) -> dict[str, Any]:
        """Get a task; wait up to `wait` seconds to finish."""
        query = {"wait": round(min(wait, 60))} if wait else {}
        response = self.get(f"/v1/tasks/{task_id}", params=query, timeout=30 + wait)
        assert response.status_code == 200, response.text
        task: dict[str, Any] = response.json()
        return task

    def wait_for(self, task_id: str, *statuses: str, seconds: float = 15.0) -> dict[str, Any]:
        """Wait until a task has one of these states.

        The default is any terminal state.
        """
        wanted = set(statuses) or TERMINAL
        wait = seconds if wanted <= TERMINAL else 0
        return until(
            lambda: found if (found := self.task(task_id, wait=wait))["status"] in wanted else None,
            seconds=seconds,
            what=f"{task_id} becoming {' or '.join(wanted)}",
        )
