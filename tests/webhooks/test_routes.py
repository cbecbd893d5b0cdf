"""Webhook routes: secrets, deliveries, and accepted URLs."""

import base64
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.clients.webhooks import HOOKED, refused
from tests.support.databases.postgres import PostgresServer
from tests.support.servers.gateway import LiveGateway
from tests.support.servers.gateway_process import run_app
from tests.support.servers.served import Served, empty_database, serve
from tests.support.servers.webhook_receiver import Receiver, ReceiverReply
from tests.support.waiting import until

V1 = "/v1/webhook-deliveries"
ADMIN = "bootstrap-key-0123456789-abcdef"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def _module_hooked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("hooked")
    with serve(empty_database(request.param, request, directory), directory, **HOOKED) as served:
        yield served


@pytest.fixture
def hooked(_module_hooked: Served) -> Iterator[Served]:
    """A gateway on each database whose tasks fail immediately.

    Tests see each other's deliveries.
    """
    _module_hooked.vendor.on_submit = refused
    yield _module_hooked
    _module_hooked.calm()


def notified(served: Served, receiver: Receiver, count: int = 1) -> list[str]:
    """Create tasks one by one and wait for their deliveries."""
    tasks = []
    for _ in range(count):
        tasks.append(served.client.submit(webhook_url=receiver.url)["id"])
        until(lambda: any(d["state"] != "pending" for d in listed(served, task_id=tasks[-1])))
    return tasks


def listed(served: Served, **query: Any) -> list[dict[str, Any]]:
    response = served.client.get(V1, params=query)
    assert response.status_code == 200, response.text
    data: list[dict[str, Any]] = response.json()["data"]
    return data


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


# --- secrets


def test_the_secret_is_created_once_and_never_cached(hooked: Served) -> None:
    first = hooked.client.get("/v1/webhook-secret")
    assert first.status_code == 200
    assert set(first.json()) == {"secret"}
    assert len(base64.b64decode(first.json()["secret"].removeprefix("whsec_"), validate=True)) == 32
    assert first.headers["cache-control"] == "no-store"
    assert hooked.client.get("/v1/webhook-secret").json() == first.json()


def test_a_rotation_creates_another_secret(hooked: Served) -> None:
    before = hooked.client.get("/v1/webhook-secret").json()["secret"]
    after = hooked.client.post("/v1/webhook-secret/rotate")
    assert after.status_code == 200
    assert after.json()["secret"] != before
    assert after.headers["cache-control"] == "no-store"
    assert hooked.client.get("/v1/webhook-secret").json() == after.json()


def test_concurrent_first_uses_create_one_secret(postgres: PostgresServer, tmp_path: Path, hooked: Served) -> None:
    url = postgres.create_database()
    settings: dict[str, Any] = {"upstream_url": hooked.vendor.url, "database_url": url, "secret_key": "s"}
    with (
        LiveGateway(data_dir=tmp_path / "a", **settings) as one,
        LiveGateway(data_dir=tmp_path / "b", **settings) as other,
    ):
        barrier, found = threading.Barrier(8), []

        def ask(gateway: LiveGateway) -> None:
            barrier.wait()
            found.append(gateway.client.get("/v1/webhook-secret").json()["secret"])

        threads = [threading.Thread(target=ask, args=(gateway,)) for gateway in (one, other) * 4]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


# --- deliveries


def test_the_list_is_paged_newest_first(hooked: Served, receiver: Receiver) -> None:
    tasks = notified(hooked, receiver, 5)
    assert [one["task_id"] for one in listed(hooked, limit=5)] == tasks[::-1]
    seen, cursor = [], ""
    while cursor is not None:
        page = hooked.client.get(V1, params={"limit": 2, "cursor": cursor}).json()
        assert set(page) == {"data", "next_cursor"}
        seen += [one["id"] for one in page["data"]]
        cursor = page["next_cursor"]
    assert seen == [one["id"] for one in listed(hooked, limit=200)]
    assert seen == sorted(seen, reverse=True)


def test_filters_by_task_and_state(hooked: Served, receiver: Receiver) -> None:
    (delivered,) = notified(hooked, receiver)
    receiver.on_post = lambda _: ReceiverReply(410)
    (failed,) = notified(hooked, receiver)
    receiver.on_post = lambda _: ReceiverReply(503, headers={"Retry-After": "3600"})
    pending = hooked.client.submit(webhook_url=receiver.url)["id"]
    until(lambda: any(d["attempts"] for d in listed(hooked, task_id=pending)))
    for task, state in ((delivered, "delivered"), (failed, "failed"), (pending, "pending")):
        (one,) = listed(hooked, task_id=task)
        assert one["state"] == state
        assert listed(hooked, task_id=task, state=state) == [one]
        assert listed(hooked, state=state)[0] == one
        assert (one["next_attempt_at"] is not None) is (state == "pending")
    assert listed(hooked, task_id=delivered, state="failed") == []
    assert listed(hooked, task_id="task_" + "0" * 32) == []
    assert len(listed(hooked, task_id="", state="", cursor="", limit="")) >= 3


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"state": "done"}, "state"),
        ({"task_id": "task_1"}, "task_id"),
        ({"task_id": "task_" + "0" * 32 + "\n"}, "task_id"),
        ({"task_id": "task_\x00"}, "task_id"),
        ({"limit": "0"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"cursor": base64.urlsafe_b64encode(b"task_" + b"0" * 32).decode()}, "cursor"),
        ({"host": "x"}, "host"),
    ],
)
def test_an_invalid_query_is_422_and_names_the_parameter(on_sqlite: Served, query: dict[str, str], field: str) -> None:
    response = on_sqlite.client.get(V1, params=query)
    assert problem(response) == (422, "invalid_request")
    assert [error["field"] for error in response.json()["errors"]] == [field]


@pytest.mark.parametrize("name", ["whd_" + "0" * 32, "whd_", "x", "whd_%00", "task_" + "0" * 32])
def test_an_unknown_delivery_cannot_be_redelivered(hooked: Served, name: str) -> None:
    assert problem(hooked.client.post(f"{V1}/{name}/redeliver")) == (404, "delivery_not_found")


def test_deleting_a_task_deletes_its_deliveries(hooked: Served, receiver: Receiver) -> None:
    (task,) = notified(hooked, receiver)
    (one,) = listed(hooked, task_id=task)
    assert hooked.client.delete(f"/v1/tasks/{task}").status_code == 204
    assert listed(hooked, task_id=task) == []
    assert problem(hooked.client.post(f"{V1}/{one['id']}/redeliver")) == (404, "delivery_not_found")


def test_a_task_can_be_deleted_while_its_webhook_is_being_sent(hooked: Served, receiver: Receiver) -> None:
    gate = threading.Event()
    receiver.on_post = lambda _: ReceiverReply(gate=gate)
    task = hooked.client.submit(webhook_url=receiver.url)["id"]
    receiver.wait_for(1)
    assert hooked.client.delete(f"/v1/tasks/{task}").status_code == 204
    gate.set()
    receiver.on_post = lambda _: ReceiverReply()
    notified(hooked, receiver)
    assert listed(hooked, task_id=task) == []
    assert len(receiver.of(task)) == 1


def test_a_project_sees_only_its_own_deliveries(tmp_path: Path, receiver: Receiver) -> None:
    database_url = f"sqlite:///{tmp_path / 'test.db'}"
    done = run_app(
        tmp_path, "keys", "create", "k", "--project", "b", DATABASE_URL=database_url, SECRET_KEY="test-secret"
    )
    other = {"Authorization": f"Bearer {done.stdout.splitlines()[-1]}"}
    with serve(database_url, tmp_path, bootstrap_api_key=ADMIN, **HOOKED) as served:
        served.client.headers["Authorization"] = f"Bearer {ADMIN}"
        served.vendor.on_submit = refused
        (task,) = notified(served, receiver)
        (one,) = listed(served)
        ask = served.client.get
        assert ask(V1, headers=other).json() == {"data": [], "next_cursor": None}
        assert ask(V1, headers=other, params={"task_id": task}).json()["data"] == []
        assert problem(served.client.post(f"{V1}/{one['id']}/redeliver", headers=other)) == (404, "delivery_not_found")
        mine = ask("/v1/webhook-secret").json()
        assert ask("/v1/webhook-secret", headers=other).json() != mine
        served.client.post("/v1/webhook-secret/rotate", headers=other)
        assert ask("/v1/webhook-secret").json() == mine
        nobody = {"Authorization": ""}
        for method, path in (
            ("GET", V1),
            ("POST", f"{V1}/{one['id']}/redeliver"),
            ("GET", "/v1/webhook-secret"),
            ("POST", "/v1/webhook-secret/rotate"),
        ):
            assert problem(served.client.request(method, path, headers=nobody)) == (401, "unauthorized")


# --- the URL at submit


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("ftp://receiver.example/", "http(s)"),
        ("//receiver.example/", "http(s)"),
        ("https://", "http(s)"),
        ("https://receiver.example:99999/", "http(s)"),
        ("https://user:secret@receiver.example/", "user name"),
        ("http://127.0.0.1:8000/", "private address"),
        ("http://2130706433/", "private address"),
        ("http://0x7f.1/", "private address"),
        ("http://[::1]/", "private address"),
        ("http://[::ffff:127.0.0.1]/", "private address"),
        ("http://[64:ff9b::10.0.0.1]/", "private address"),
        ("http://localhost/", "private address"),
        ("http://api.LOCALHOST./", "private address"),
        ("http://169.254.169.254/latest/meta-data/", "private address"),
        ("http://10.0.0.1/", "private address"),
    ],
)
def test_an_unusable_or_private_url_is_422(on_sqlite: Served, url: str, word: str) -> None:
    response = on_sqlite.client.post("/v1/tasks", json={"prompt": "x", "webhook_url": url})
    assert problem(response) == (422, "invalid_request")
    (error,) = response.json()["errors"]
    assert error["field"] == "webhook_url"
    assert word in error["message"]
    assert "secret" not in response.text


def test_a_network_that_the_operator_allows_is_accepted(hooked: Served) -> None:
    assert hooked.client.submit(webhook_url="http://127.1:9/")["webhook_url"] == "http://127.1:9/"
    refused_one = hooked.client.post("/v1/tasks", json={"prompt": "x", "webhook_url": "http://10.0.0.1/"})
    assert problem(refused_one) == (422, "invalid_request")


def test_the_url_is_part_of_the_idempotent_request(hooked: Served) -> None:
    body = {"prompt": "x", "webhook_url": "https://receiver.example/1"}
    for url, status in ((body["webhook_url"], 202), ("https://receiver.example/2", 422), (body["webhook_url"], 202)):
        response = hooked.client.post(
            "/v1/tasks", json={**body, "webhook_url": url}, headers={"Idempotency-Key": "with-url"}
        )
        assert response.status_code == status
