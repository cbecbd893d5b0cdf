"""The OpenAPI document.

`tests/fuzz` and `test_responses.py` check that the service conforms to it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from pydantic import ValidationError

from app.main import create_app
from app.settings import Settings
from app.tasks.requests import TaskRequest
from app.web.guards import reads_body
from tests.support.clients.keys import KEY
from tests.support.servers.served import Served

EVERYWHERE = {"400", "403", "408", "413", "414", "431", "500", "503"}


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    directory: Path = tmp_path_factory.mktemp("document")
    settings = Settings(_env_file=None, data_dir=directory)
    return create_app(settings, upstream_url="http://127.0.0.1:9", upstream_key="key").openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_route_documents_the_common_errors(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        assert set(operation["responses"]) >= EVERYWHERE, (method, path)


def test_all_errors_are_problems(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "400" and path != "/readyz":
                name = response["$ref"].removeprefix("#/components/responses/")
                component = document["components"]["responses"][name]
                assert list(component["content"]) == ["application/problem+json"], (method, path, status)
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_operation_ids_are_stable(document: dict[str, Any]) -> None:
    assert {f"{method} {path}": operation["operationId"] for method, path, operation in operations(document)} == {
        "POST /v1/tasks": "submit_task",
        "GET /v1/tasks": "list_tasks",
        "GET /v1/tasks/{task_id}": "get_task",
        "DELETE /v1/tasks/{task_id}": "delete_task",
        "POST /v1/tasks/{task_id}/cancel": "cancel_task",
        "POST /v1/tasks/{task_id}/retry": "retry_task",
        "GET /v1/tasks/{task_id}/callbacks": "list_task_callbacks",
        "GET /v1/tasks/{task_id}/events": "stream_task_events",
        "GET /v1/events": "stream_events",
        "GET /v1/images/{image_id}": "get_image",
        "POST /v1/uploads": "create_upload",
        "GET /v1/uploads/{upload_id}": "get_upload",
        "GET /v1/webhook-secret": "get_webhook_secret",
        "POST /v1/webhook-secret/rotate": "rotate_webhook_secret",
        "GET /v1/webhook-deliveries": "list_webhook_deliveries",
        "POST /v1/webhook-deliveries/{delivery_id}/redeliver": "redeliver_webhook",
        "POST /v1/tokens": "create_token",
        "POST /callbacks/nanobanana/{token}": "receive_callback",
        "GET /healthz": "get_health",
        "GET /readyz": "get_readiness",
    }


def test_operations_are_described_and_tagged(document: dict[str, Any]) -> None:
    declared = {tag["name"] for tag in document["tags"] if tag["description"]}
    used = set()
    for _, path, operation in operations(document):
        assert 3 <= len(operation["summary"].split()) <= 12, path
        assert operation["description"].endswith("."), path
        used |= set(operation["tags"])
    assert used == declared


def test_parameters_that_routes_read_themselves_are_documented(document: dict[str, Any]) -> None:
    found = {
        operation["operationId"]: {one["name"]: one for one in operation.get("parameters", [])}
        for _, _, operation in operations(document)
    }
    assert set(found["submit_task"]) == set(found["retry_task"]) - {"task_id"} == {"Idempotency-Key", "Prefer"}
    assert found["submit_task"]["Idempotency-Key"]["schema"] == {"type": "string", "minLength": 1, "maxLength": 255}
    assert found["get_task"]["wait"]["schema"] == {"type": "integer", "minimum": 0, "maximum": 60}
    assert {"Last-Event-ID", "last_event_id", "access_token"} <= set(found["stream_events"])
    assert {"Range", "If-Range", "If-None-Match"} <= set(found["get_image"])


def test_the_document_uses_only_keywords_of_its_version(document: dict[str, Any]) -> None:
    """`itemSchema` came with 3.2; `make lint` checks the rest."""
    assert document["openapi"] == "3.1.0"
    assert "itemSchema" not in json.dumps(document)


def test_authentication_is_optional_only_without_keys(on_sqlite: Served, keyed_sqlite: Served) -> None:
    public = {"get_image", "get_upload", "receive_callback", "get_health", "get_readiness"}
    required: list[dict[str, Any]] = [{"bearerAuth": []}]
    for served, expected in ((on_sqlite, [*required, {}]), (keyed_sqlite, required)):
        headers = {"Authorization": f"Bearer {KEY}"}
        document = served.client.get("/openapi.json", headers=headers).json()
        for _, path, operation in operations(document):
            assert operation["security"] == ([] if operation["operationId"] in public else expected), path


def test_documented_webhooks_contain_the_task_schema(document: dict[str, Any]) -> None:
    body = document["webhooks"]["task"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    message = document["components"]["schemas"][body["$ref"].rpartition("/")[2]]
    assert message["properties"]["data"]["$ref"] == "#/components/schemas/Task"


def test_the_body_guard_lists_all_routes_that_read_bodies(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        if "requestBody" in operation:
            assert reads_body({"method": method, "path": path}), f"{method} {path} reads a body: see reads_body"


def test_each_model_has_its_own_parameters(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    mapping = schemas["ModelRequest"]["discriminator"]["mapping"]
    models = {model: schemas[ref.rpartition("/")[2]] for model, ref in mapping.items()}
    assert set(models) == {"nano-banana", "nano-banana-pro", "nano-banana-2"}
    for model, schema in models.items():
        assert schema["properties"]["model"] == {"type": "string", "const": model}
        assert "model" in schema["required"], "a discriminator needs it"
    assert models["nano-banana"]["properties"]["resolution"] == {"type": "null"}
    assert models["nano-banana-pro"]["properties"]["resolution"]["enum"] == ["1K", "2K", "4K", None]
    assert models["nano-banana-pro"]["properties"]["image_urls"]["anyOf"][0]["maxItems"] == 8


def test_the_request_schema_agrees_with_validation(document: dict[str, Any]) -> None:
    body = document["paths"]["/v1/tasks"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/TaskRequest"}
    assert body["examples"]["minimal"]["value"] == {"prompt": "a lake at sunset"}
    validator = jsonschema_rs.validator_for({**body["schema"], "components": document["components"]})
    examples = [example["value"] for example in body["examples"].values()]
    for request in [*examples, {"prompt": "x", "model": None}, {"prompt": "x", "model": "nano-banana-2"}]:
        assert validator.is_valid(request), request
        TaskRequest.model_validate(request)
    for request in [{"prompt": "x", "resolution": "2K"}, {"prompt": "x", "model": "other"}, {"prompt": "x", "x": 1}]:
        assert not validator.is_valid(request), request
        with pytest.raises(ValidationError):
            TaskRequest.model_validate(request)


@pytest.mark.parametrize("moment", ["0", "1763800000", "0.5", "-1e9", "NaN", "now"])
@pytest.mark.parametrize("name", ["created_after", "created_before"])
def test_a_time_must_be_a_date_not_a_number(on_sqlite: Served, name: str, moment: str) -> None:
    answer = on_sqlite.client.get("/v1/tasks", params={name: moment})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, name)


def test_a_whole_number_may_have_a_decimal_point(on_sqlite: Served) -> None:
    headers = {"Content-Type": "application/json"}
    answer = on_sqlite.client.post("/v1/tasks", content=b'{"prompt":"x","num_images":2.0}', headers=headers)
    assert (answer.status_code, answer.json()["input"]["num_images"]) == (202, 2)
    for wrong in (b"2.5", b"true", b'"2"', b"1e400"):
        content = b'{"prompt":"x","num_images":%b}' % wrong
        assert on_sqlite.client.post("/v1/tasks", content=content, headers=headers).status_code in {400, 422}


def test_header_and_query_of_the_last_event_are_validated(on_sqlite: Served) -> None:
    answer = on_sqlite.client.get("/v1/events?last_event_id=x", headers={"Last-Event-ID": "1"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "last_event_id")
