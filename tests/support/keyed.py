"""What tests of keys and tokens say most."""

from typing import Any

import httpx

from tests.support.served import Served

V1 = "/v1/tasks"
KEY = "nbg_bootstrap-key-0123456789"


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


def make(served: Served, subject: str = "user-7", **body: Any) -> str:
    response = served.client.post("/v1/tokens", json={"subject": subject, **body}, headers=bearer(KEY))
    assert response.status_code == 201, response.text
    return str(response.json()["token"])


def submit(served: Served, secret: str, **headers: str) -> httpx.Response:
    return served.client.post(V1, json={"prompt": "a lake"}, headers={**bearer(secret), **headers})


def failed(served: Served, secret: str) -> dict[str, Any]:
    """Submit a task and wait until the vendor has refused it."""
    task: dict[str, Any] = submit(served, secret, Prefer="wait=15").json()
    assert task["status"] == "failed"
    return task
