"""Every documented JSON response occurs once and matches its schema."""

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


class ResponseChecker:
    """Checks a gateway's responses against its document and records them."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.document: dict[str, Any] = served.client.get("/openapi.json").json()
        self.seen: set[tuple[str, str]] = set()
        self._components = closed(self.document["components"]["schemas"])

    def call(self, operation_id: str, status: int, *, body: Any = None, **options: Any) -> Any:
        """Call an operation and check the response; returns its body."""
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
        """All JSON responses that are not errors."""
        return {
            (operation["operationId"], status)
            for methods in self.document["paths"].values()
            for operation in methods.values()
            for status, response in operation["responses"].items()
            if JSON in response.get("content", {})
        }


@pytest.fixture
def checker(tmp_path: Path) -> Iterator[ResponseChecker]:
    settings = {**HOOKED, "bootstrap_api_key": KEY, "public_base_url": "http://localhost"}
    with serve(create_sqlite(tmp_path / "test.db"), tmp_path, **settings) as served:
        served.client.headers.update(bearer(KEY))
        yield ResponseChecker(served)


def test_every_response_matches_the_document(checker: ResponseChecker, tmp_path: Path) -> None:
    served, wait = checker.served, {"Prefer": "wait=15"}
    hook = {"prompt": "a lake", "webhook_url": "http://127.0.0.1:9/hook"}
    # A result by callback.
    task = checker.call("submit_task", 202, body={"prompt": "a lake", "metadata": {"order": "42"}})
    submit = served.submit_of(task["id"])
    ids = {"task_id": task["id"], "token": submit.callback_url.rpartition("/")[2]}
    upstream_id = served.client.wait_for(task["id"], "processing")["upstream_task_id"]
    for expected in ("received", "duplicate"):
        receipt = checker.call("receive_callback", 200, ids=ids, body=success_a(upstream_id))
        assert receipt == {"status": expected}
    assert checker.call("get_task", 200, ids=ids)["images"]
    assert checker.call("list_task_callbacks", 200, ids=ids)["data"]
    # Failures, with a webhook.
    served.vendor.on_submit = refused
    failed = checker.call("submit_task", 200, body=hook, headers=wait)
    assert failed["error"]["code"] == "invalid_request"
    ids = {"task_id": failed["id"]}
    checker.call("retry_task", 200, ids=ids, headers=wait)
    checker.call("retry_task", 202, ids=ids)
    assert checker.call("list_tasks", 200, params={"limit": 1})["next_cursor"]
    delivery = until(
        lambda: next((one for one in deliveries(served.gateway) if one["attempts"]), None), what="an attempt"
    )
    checker.call("list_webhook_deliveries", 200)
    checker.call("redeliver_webhook", 202, ids={"delivery_id": delivery["id"]})
    checker.call("get_webhook_secret", 200)
    checker.call("rotate_webhook_secret", 200)
    # A task that stays queued while the upstream refuses the account, which makes the service degraded.
    served.vendor.on_submit = lambda _: accepted()
    checker.call("get_readiness", 200)
    served.vendor.on_submit = lambda _: envelope(402, "Insufficient credits")
    queued = checker.call("submit_task", 202, body={"prompt": "a lake"})
    until(lambda: checker.call("get_readiness", 200)["upstream"]["state"] == "held", what="the hold")
    assert checker.call("get_readiness", 200)["upstream"]["reason"] == "insufficient_credits"
    checker.call("cancel_task", 200, ids={"task_id": queued["id"]})
    # All other operations.
    checker.call("create_upload", 201, content=encode(noise(), "PNG"), headers={"Content-Type": "image/png"})
    checker.call("create_token", 201, body={"subject": "user-7"})
    checker.call("get_health", 200)
    with closing(sqlite3.connect(tmp_path / "test.db")) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'other'")
    checker.call("get_readiness", 503)
    assert checker.seen == checker.documented()


def test_errors_match_the_document(checker: ResponseChecker) -> None:
    problem = checker.call("submit_task", 422, body={"prompt": "", "nonsense": 1})
    assert {error["field"] for error in problem["errors"]} == {"prompt", "nonsense"}
    assert "errors" not in checker.call("get_task", 404, ids={"task_id": "task_" + "0" * 32})
    checker.call("get_task", 422, ids={"task_id": "task_" + "0" * 32}, params={"wait": "61"})
    checker.call("list_tasks", 401, headers={"Authorization": "Bearer nonsense"})
    checker.call("receive_callback", 404, ids={"token": "nonsense"}, body={})
    checker.call("get_image", 404, ids={"image_id": "nonsense"})
