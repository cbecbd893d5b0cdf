"""A sandbox client that speaks the vendor's API."""

import json
from typing import Any

import httpx

from tests.support.clients.connections import KEPT_BRIEFLY
from tests.support.waiting import until

ROOT = "/api/v1/nanobanana"


class Client(httpx.Client):
    """A client of one sandbox, with some API key."""

    def __init__(self, url: str) -> None:
        headers = {"Authorization": "Bearer key", "User-Agent": "tests/1"}
        super().__init__(base_url=url, headers=headers, trust_env=False, timeout=30, limits=KEPT_BRIEFLY)

    def submit(self, prompt: str = "a lake", endpoint: str = "generate", **fields: Any) -> httpx.Response:
        kind = {"type": "TEXTTOIAMGE"} if endpoint == "generate" else {}
        # ASCII, because httpx refuses to send lone surrogates, unlike other clients.
        body = json.dumps({"prompt": prompt, **kind, **fields})
        return self.post(f"{ROOT}/{endpoint}", content=body, headers={"Content-Type": "application/json"})

    def accept(self, prompt: str = "a lake", endpoint: str = "generate", **fields: Any) -> str:
        answer = self.submit(prompt, endpoint, **fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["data"]["taskId"])

    def record(self, task_id: str) -> httpx.Response:
        return self.get(f"{ROOT}/record-info", params={"taskId": task_id})

    def submits(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.get("/sandbox/submits").json()
        return listed

    def tasks(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.get("/sandbox/tasks").json()
        return listed

    def settled(self, task_id: str) -> dict[str, Any]:
        """Wait until a task is settled."""
        return until(lambda: next((t for t in self.tasks() if t["task_id"] == task_id and t["settled"]), None))

    def behave(self, **fields: Any) -> None:
        answer = self.put("/sandbox/behaviour", json={**QUICK, **fields})
        assert answer.status_code == 200, answer.text


QUICK = {"delay_seconds": 0, "callback_pauses_seconds": [0.02, 0.04], "seed": 7}
