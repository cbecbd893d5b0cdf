"""No route gives access to another project's or subject's data."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.web.permissions import TOKEN_ROUTES
from tests.support.clients.keys import KEY, V1, bearer, create_key, problem
from tests.support.clients.webhooks import HOOKED
from tests.support.servers.served import Served, empty_database, serve
from tests.support.servers.vendor import envelope
from tests.support.waiting import until

# Error codes for another project, or a token of another subject.
NOT_FOUND = {
    "GET /v1/tasks/{task_id}": "task_not_found",
    "POST /v1/tasks/{task_id}/cancel": "task_not_found",
    "POST /v1/tasks/{task_id}/retry": "task_not_found",
    "DELETE /v1/tasks/{task_id}": "task_not_found",
    "GET /v1/tasks/{task_id}/callbacks": "task_not_found",
    "GET /v1/tasks/{task_id}/events": "task_not_found",
    "POST /v1/webhook-deliveries/{delivery_id}/redeliver": "delivery_not_found",
}
# Lists, with a query for an item of somebody else. They don't contain it.
LISTS = {"GET /v1/tasks": "", "GET /v1/webhook-deliveries": "?task_id={task_id}"}
# Routes that don't refer to anyone's data, each with the reason.
OTHERS = {
    "POST /v1/tasks": "creates the caller's own task; see the tests of idempotency keys",
    "POST /v1/uploads": "stores the caller's own image",
    "GET /v1/events": "streams the caller's own tasks; see the tests of streams",
    "POST /v1/tokens": "creates a token for the caller's own project",
    "GET /v1/webhook-secret": "returns the caller's own secret; see below",
    "POST /v1/webhook-secret/rotate": "changes the caller's own secret; see below",
    "POST /callbacks/nanobanana/{token}": "needs no key; its token names the task",
    "GET /v1/images/{image_id}": "needs no key; its id can't be guessed",
    "GET /v1/uploads/{upload_id}": "needs no key; its id can't be guessed",
    "GET /healthz": "contains nobody's data",
    "GET /readyz": "contains nobody's data",
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def owned(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, dict[str, str], dict[str, str]]]:
    """A service with a task, its IDs, and strangers' secrets.

    The task has the subject `mine` and a webhook delivery.
    """
    directory = tmp_path_factory.mktemp("owned")
    database_url = empty_database(request.param, request, directory)
    with serve(database_url, directory, bootstrap_api_key=KEY, **HOOKED) as served:
        served.vendor.on_submit = lambda _: envelope(400, "no")
        ids = make_task(served)
        _, other = create_key(database_url, "other", "other")
        strangers = {
            "another project": other,
            "another subject": make_token(served, KEY, "other"),
            "another project's token of the same subject": make_token(served, other, "mine"),
        }
        yield served, ids, strangers


def make_token(served: Served, key: str, subject: str) -> str:
    made = served.client.post("/v1/tokens", json={"subject": subject}, headers=bearer(key))
    return str(made.json()["token"])


def make_task(served: Served) -> dict[str, str]:
    """Create a failed task with a webhook delivery.

    Uses the API key, because tokens can't set webhooks.
    """
    body = {"prompt": "x", "webhook_url": "http://127.0.0.1:9/hook"}
    task = served.client.post(V1, json=body, headers=bearer(KEY)).json()
    query = f"/v1/webhook-deliveries?task_id={task['id']}"
    found = until(lambda: served.client.get(query, headers=bearer(KEY)).json()["data"] or None)
    return {"task_id": task["id"], "delivery_id": found[0]["id"]}


def routes(served: Served) -> set[str]:
    document: dict[str, Any] = served.client.get("/openapi.json").json()
    return {f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations}


def call(served: Served, route: str, ids: dict[str, str], secret: str) -> httpx.Response:
    method, path = route.split(" ")
    return served.client.request(method, path.format(**ids), headers=bearer(secret))


def test_all_routes_are_covered(owned: tuple[Served, dict[str, str], dict[str, str]]) -> None:
    assert routes(owned[0]) <= NOT_FOUND.keys() | LISTS.keys() | OTHERS.keys()
    assert routes(owned[0]) >= NOT_FOUND.keys() | LISTS.keys()


@pytest.mark.parametrize("route", NOT_FOUND)
def test_data_of_others_is_not_found(owned: tuple[Served, dict[str, str], dict[str, str]], route: str) -> None:
    served, ids, strangers = owned
    for who, secret in strangers.items():
        method, path = route.split(" ")
        may_ask = who == "another project" or (method, path) in TOKEN_ROUTES
        expected = (404, NOT_FOUND[route]) if may_ask else (403, "forbidden")
        assert problem(call(served, route, ids, secret)) == expected, who
    assert served.client.get(f"{V1}/{ids['task_id']}", headers=bearer(KEY)).json()["status"] == "failed"


@pytest.mark.parametrize("route", LISTS)
def test_lists_do_not_show_data_of_others(owned: tuple[Served, dict[str, str], dict[str, str]], route: str) -> None:
    served, ids, strangers = owned
    method, path = route.split(" ")
    for who, secret in strangers.items():
        answer = call(served, f"{route}{LISTS[route]}", ids, secret)
        if who != "another project" and (method, path) not in TOKEN_ROUTES:
            assert problem(answer) == (403, "forbidden"), who
        else:
            assert answer.json() == {"data": [], "next_cursor": None}, who
    assert ids["task_id"] in call(served, f"{route}{LISTS[route]}", ids, KEY).text


def test_each_project_has_its_own_webhook_secret(owned: tuple[Served, dict[str, str], dict[str, str]]) -> None:
    served, _, strangers = owned
    keys = (KEY, strangers["another project"])
    before = [call(served, "GET /v1/webhook-secret", {}, key).json()["secret"] for key in keys]
    assert before[0] != before[1]
    call(served, "POST /v1/webhook-secret/rotate", {}, keys[1])
    assert call(served, "GET /v1/webhook-secret", {}, KEY).json()["secret"] == before[0]


def test_a_stream_has_no_events_of_other_projects(owned: tuple[Served, dict[str, str], dict[str, str]]) -> None:
    served, ids, strangers = owned
    for who, secret in strangers.items():
        with served.follow("/v1/events", last_id=0, **bearer(secret)) as stream:
            own = served.client.post(V1, json={"prompt": "own"}, headers=bearer(secret)).json()["id"]
            stream.wait(lambda s, own=own: own in {task_id for task_id, _ in s.told})  # type: ignore[misc]
            assert ids["task_id"] not in {task_id for task_id, _ in stream.told}, who
