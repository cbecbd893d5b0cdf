"""Every JSON answer that the API's document names is sent once, and is exactly what the document says."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest

from tests.support.clients.keys import KEY, bearer
from tests.support.clients.webhooks import HOOKED, deliveries, refused
from tests.support.databases.sqlite import create_sqlite
from tests.support.images.samples import encode, noise
from tests.support.schemas import closed
from tests.support.servers.served import Served, serve
from tests.support.servers.vendor import accepted, envelope, success_a
from tests.support.waiting import until

JSON = "application/json"


class Held:
    """Holds each answer of a gateway to the gateway's own document, and remembers which there were."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.document: dict[str, Any] = served.client.get("/openapi.json").json()
        self.seen: set[tuple[str, str]] = set()
        self._components = closed(self.document["components"]["schemas"])

    def ask(self, operation_id: str, status: int, *, body: Any = None, **options: Any) -> Any:
        """Make a request of an operation and check the answer; returns its content."""
        path, method, operation = self.operation(operation_id)
        ids = options.pop("ids", {})
        headers = {**bearer(KEY), **options.pop("headers", {})}
        response = self.served.client.request(method, path.format(**ids), json=body, headers=headers, **options)
        return self.check(operation_id, operation, status, response)

    def check(self, operation_id: str, operation: dict[str, Any], status: int, response: httpx.Response) -> Any:
        assert response.status_code == status, response.text
        documented = operation["responses"][str(status)]
        if "$ref" in documented:
            documented = self.document["components"]["responses"][documented["$ref"].rpartition("/")[2]]
        media_type = response.headers["content-type"]
        schema = {**documented["content"][media_type]["schema"], "components": {"schemas": self._components}}
        content = response.json()
        jsonschema_rs.validate(schema, content)
        self.seen.add((operation_id, str(status)))
        return content

    def operation(self, operation_id: str) -> tuple[str, str, dict[str, Any]]:
        return next(
            (path, method, operation)
            for path, methods in self.document["paths"].items()
            for method, operation in methods.items()
            if operation["operationId"] == operation_id
        )

    def documented(self) -> set[tuple[str, str]]:
        """Every answer in JSON that is no error."""
        return {
            (operation["operationId"], status)
            for methods in self.document["paths"].values()
            for operation in methods.values()
            for status, response in operation["responses"].items()
            if JSON in response.get("content", {})
        }


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    settings = {**HOOKED, "bootstrap_api_key": KEY, "public_base_url": "http://localhost"}
    with serve(create_sqlite(tmp_path / "test.db"), tmp_path, **settings) as served:
        served.client.headers.update(bearer(KEY))
        yield Held(served)


def test_every_response_matches_the_document(held: Held, tmp_path: Path) -> None:
    served, wait = held.served, {"Prefer": "wait=15"}
    hook = {"prompt": "a lake", "webhook_url": "http://127.0.0.1:9/hook"}
    # A result by callback.
    task = held.ask("submit_task", 202, body={"prompt": "a lake", "metadata": {"order": "42"}})
    submit = served.submit_of(task["id"])
    ids = {"task_id": task["id"], "token": submit.callback_url.rpartition("/")[2]}
    upstream_id = served.client.wait_for(task["id"], "processing")["upstream_task_id"]
    for expected in ("received", "duplicate"):
        receipt = held.ask("receive_callback", 200, ids=ids, body=success_a(upstream_id))
        assert receipt == {"status": expected}
    assert held.ask("get_task", 200, ids=ids)["images"]
    assert held.ask("list_task_callbacks", 200, ids=ids)["data"]
    # Failures, with a webhook.
    served.vendor.on_submit = refused
    failed = held.ask("submit_task", 200, body=hook, headers=wait)
    assert failed["error"]["code"] == "invalid_request"
    ids = {"task_id": failed["id"]}
    held.ask("retry_task", 200, ids=ids, headers=wait)
    held.ask("retry_task", 202, ids=ids)
    assert held.ask("list_tasks", 200, params={"limit": 1})["next_cursor"]
    delivery = until(
        lambda: next((one for one in deliveries(served.gateway) if one["attempts"]), None), what="an attempt"
    )
    held.ask("list_webhook_deliveries", 200)
    held.ask("redeliver_webhook", 202, ids={"delivery_id": delivery["id"]})
    held.ask("get_webhook_secret", 200)
    held.ask("rotate_webhook_secret", 200)
    # A task that stays queued while the upstream refuses the account, which makes the service degraded.
    served.vendor.on_submit = lambda _: accepted()
    held.ask("get_readiness", 200)
    served.vendor.on_submit = lambda _: envelope(402, "Insufficient credits")
    queued = held.ask("submit_task", 202, body={"prompt": "a lake"})
    until(lambda: held.ask("get_readiness", 200)["upstream"]["state"] == "held", what="the hold")
    assert held.ask("get_readiness", 200)["upstream"]["reason"] == "insufficient_credits"
    held.ask("cancel_task", 200, ids={"task_id": queued["id"]})
    # The rest.
    held.ask("create_upload", 201, content=encode(noise(), "PNG"), headers={"Content-Type": "image/png"})
    held.ask("create_token", 201, body={"subject": "user-7"})
    held.ask("get_health", 200)
    with closing(sqlite3.connect(tmp_path / "test.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'other'")
    held.ask("get_readiness", 503)
    assert held.seen == held.documented()


def test_errors_match_the_document(held: Held) -> None:
    problem = held.ask("submit_task", 422, body={"prompt": "", "nonsense": 1})
    assert {error["field"] for error in problem["errors"]} == {"prompt", "nonsense"}
    assert "errors" not in held.ask("get_task", 404, ids={"task_id": "task_" + "0" * 32})
    held.ask("get_task", 422, ids={"task_id": "task_" + "0" * 32}, params={"wait": "61"})
    held.ask("list_tasks", 401, headers={"Authorization": "Bearer nonsense"})
    held.ask("receive_callback", 404, ids={"token": "nonsense"}, body={})
    held.ask("get_image", 404, ids={"image_id": "nonsense"})
