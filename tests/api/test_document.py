"""The API's document says what all routes have in common; `tests/fuzz` tries out the rest."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.api.small_bodies import SmallBodies
from app.main import create_app
from app.settings import Settings
from tests.support.served import Served

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


def test_every_route_names_the_errors_that_all_have(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        assert set(operation["responses"]) >= EVERYWHERE, (method, path)


def test_errors_are_problems_and_nothing_else(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for status, response in operation["responses"].items():
            if status >= "400" and "content" in response and path != "/readyz":
                assert list(response["content"]) == ["application/problem+json"], (method, path, status)
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_routes_that_read_a_body_are_known_to_the_limit_of_the_others(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        is_read = SmallBodies.is_read({"method": method, "path": path})
        if "requestBody" in operation:
            assert is_read, f"{method} {path} reads a body: name it in READ_BY_ROUTES"


def test_each_model_tells_its_own_parameters(document: dict[str, Any]) -> None:
    body = document["paths"]["/v1/tasks"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    models = {model["title"]: model["properties"] for model in body["oneOf"]}
    assert set(models) == {"nano-banana", "nano-banana-pro", "nano-banana-2"}
    assert models["nano-banana"]["resolution"] == {"type": "null"}
    assert models["nano-banana-pro"]["resolution"]["enum"] == ["1K", "2K", "4K", None]
    assert models["nano-banana-pro"]["image_urls"]["anyOf"][0]["maxItems"] == 8


@pytest.mark.parametrize("moment", ["0", "1763800000", "0.5", "-1e9", "NaN", "now"])
@pytest.mark.parametrize("name", ["created_after", "created_before"])
def test_a_moment_is_a_date_and_no_number(on_sqlite: Served, name: str, moment: str) -> None:
    answer = on_sqlite.client.get("/v1/tasks", params={name: moment})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, name)


def test_a_whole_number_may_be_written_with_a_point(on_sqlite: Served) -> None:
    headers = {"Content-Type": "application/json"}
    answer = on_sqlite.client.post("/v1/tasks", content=b'{"prompt":"x","num_images":2.0}', headers=headers)
    assert (answer.status_code, answer.json()["input"]["num_images"]) == (202, 2)
    for wrong in (b"2.5", b"true", b'"2"', b"1e400"):
        content = b'{"prompt":"x","num_images":%b}' % wrong
        assert on_sqlite.client.post("/v1/tasks", content=content, headers=headers).status_code in {400, 422}


def test_both_spellings_of_the_last_event_are_checked(on_sqlite: Served) -> None:
    answer = on_sqlite.client.get("/v1/events?last_event_id=x", headers={"Last-Event-ID": "1"})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "last_event_id")
