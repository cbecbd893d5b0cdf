"""Helpers for tests of keys and tokens."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx

from app.access import authenticator as access
from app.clock import SystemClock
from app.db.engine import Database
from tests.support.servers.served import Served

T = TypeVar("T")
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
    """Submit a task and wait until the vendor rejects it."""
    task: dict[str, Any] = submit(served, secret, Prefer="wait=15").json()
    assert task["status"] == "failed"
    return task


def create_key(database_url: str, name: str, project: str = "default") -> tuple[str, str]:
    """Create a key outside the service; return id and secret."""
    key, secret = _beside(database_url, lambda database: access.create_key(database, SystemClock(), name, project))
    return key.id, secret


def revoke_key(database_url: str, key_id: str) -> None:
    """Revoke a key outside the service, as the command does."""
    assert _beside(database_url, lambda database: access.revoke_key(database, SystemClock(), key_id))


def _beside(database_url: str, work: Callable[[Database], Awaitable[T]]) -> T:
    async def run() -> T:
        database = Database(database_url)
        try:
            return await work(database)
        finally:
            await database.aclose()

    return asyncio.run(run())
