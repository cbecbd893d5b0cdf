"""A gateway and a scripted vendor for many tests."""

import asyncio
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.db import account_store, event_store
from app.db.engine import Database
from app.domain.account import Account
from tests.support.clients.event_reader import EventReader
from tests.support.clients.task_client import TaskClient
from tests.support.databases.postgres import PostgresServer
from tests.support.databases.sqlite import create_sqlite
from tests.support.servers.gateway import LiveGateway
from tests.support.servers.vendor import Submit, Vendor, accepted, record


@dataclass
class Served:
    gateway: LiveGateway
    vendor: Vendor
    database_url: str

    @property
    def client(self) -> TaskClient:
        return self.gateway.client

    def submit_of(self, task_id: str) -> Submit:
        """Wait for a task's submit at the vendor."""
        return self.vendor.wait_for_submit_of(task_id)

    def processing(self, **body: Any) -> tuple[dict[str, Any], Submit]:
        """Submit a task and wait until it is processing."""
        task = self.client.submit(**body)
        submit = self.submit_of(task["id"])
        return self.client.wait_for(task["id"], "processing"), submit

    def call_back(self, submit: Submit, body: Any) -> httpx.Response:
        """POST to a task's callback URL with the shared client."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(submit.callback_url, content=content, headers={"Content-Type": "application/json"})

    def kept(self, task_id: str) -> list[dict[str, Any]]:
        """Return a task's recorded callbacks, newest first."""
        response = self.client.get(f"/v1/tasks/{task_id}/callbacks")
        assert response.status_code == 200, response.text
        data: list[dict[str, Any]] = response.json()["data"]
        return data

    def polls_about(self, upstream_id: str) -> int:
        return sum(1 for polled, _ in list(self.vendor.polls) if polled == upstream_id)

    def event_types(self, task_id: str) -> list[str]:
        """Return the types of a task's stored events."""

        async def read() -> list[str]:
            database = Database(self.database_url)
            try:
                return await database.read(
                    lambda connection: [event["type"] for event in event_store.of_task(connection, task_id)]
                )
            finally:
                await database.aclose()

        return asyncio.run(read())

    def follow(self, path: str = "/v1/events", **options: Any) -> EventReader:
        """Open a stream."""
        return EventReader(self.gateway.settings.local_url, path, **options)

    def calm(self) -> None:
        """Reset the vendor and the gateway's view of the upstream."""
        self.vendor.on_submit = lambda _: accepted()
        self.vendor.on_poll = lambda upstream_id: record(upstream_id, 0)

        async def reopen() -> None:
            database = Database(self.database_url)
            try:
                await database.write(lambda connection: account_store.save(connection, Account()))
            finally:
                await database.aclose()

        asyncio.run(reopen())


@contextmanager
def serve(database_url: str, directory: Path, **settings: Any) -> Iterator[Served]:
    """Run a vendor and a gateway in front of it."""
    vendor = Vendor()
    given = {"database_url": database_url, "secret_key": "test-secret", **settings}
    try:
        with LiveGateway(data_dir=directory / "data", upstream_url=vendor.url, **given) as gateway:
            yield Served(gateway, vendor, database_url)
    finally:
        vendor.close()


def empty_database(kind: str, request: pytest.FixtureRequest, directory: Path) -> str:
    """Return the URL of a new migrated database."""
    if kind == "sqlite":
        return create_sqlite(directory / f"{uuid.uuid4().hex}.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.create_database()
