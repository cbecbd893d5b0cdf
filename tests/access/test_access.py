"""Access by keys, projects, hosts and origins."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.servers.gateway import LiveGateway
from tests.support.servers.gateway_process import run_app
from tests.support.servers.served import Served, empty_database, serve
from tests.support.servers.vendor import envelope, success_a
from tests.support.waiting import until

V1 = "/v1/tasks"
BOOTSTRAP = "bootstrap-key-0123456789-abcdef"


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


def create_key(directory: Path, database_url: str, *arguments: str) -> str:
    done = run_app(directory, "keys", "create", *arguments, DATABASE_URL=database_url, SECRET_KEY="test-secret")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# --- open


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "127.9.9.9", "[::1]:8000", "a.localhost"])
def test_an_open_service_accepts_loopback_hosts(on_sqlite: Served, host: str) -> None:
    assert on_sqlite.client.get(V1, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8000",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "0.0.0.0",
        "",
    ],
)
@pytest.mark.parametrize("path", [V1, "/docs", "/openapi.json", "/", "/nowhere"])
def test_an_open_service_rejects_other_hosts(on_sqlite: Served, host: str, path: str) -> None:
    assert problem(on_sqlite.client.get(path, headers={"Host": host})) == (403, "host_not_allowed")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example", "file://", ""])
def test_an_open_service_rejects_pages_of_other_origins(on_sqlite: Served, origin: str) -> None:
    before = on_sqlite.client.get(V1).json()["data"]
    response = on_sqlite.client.post(V1, json={"prompt": "x"}, headers={"Origin": origin})
    assert problem(response) == (403, "origin_not_allowed")
    assert on_sqlite.client.get(V1).json()["data"] == before


def test_an_open_service_accepts_pages_of_its_own_origin(on_sqlite: Served) -> None:
    origin = on_sqlite.gateway.settings.local_url
    assert on_sqlite.client.get(V1, headers={"Origin": origin}).status_code == 200


def test_callbacks_and_health_accept_any_host(on_sqlite: Served) -> None:
    task, submit = on_sqlite.processing()
    stranger = {"Host": "evil.example", "Origin": "https://evil.example"}
    assert on_sqlite.client.get("/healthz", headers=stranger).status_code == 200
    assert on_sqlite.client.get("/readyz", headers=stranger).status_code == 200
    body = success_a(task["upstream_task_id"])
    assert on_sqlite.client.post(submit.callback_url, json=body, headers=stranger).json() == {"status": "received"}


def test_without_keys_any_authorization_is_ignored(on_sqlite: Served) -> None:
    assert on_sqlite.client.get(V1, headers={"Authorization": "Basic eDp5"}).status_code == 200


def test_creating_the_first_key_makes_a_running_service_require_keys(served: Served, tmp_path: Path) -> None:
    assert served.client.get(V1).status_code == 200
    key = create_key(tmp_path, served.database_url, "first")
    until(lambda: served.client.get(V1).status_code == 401, seconds=3, what="the closing")
    assert served.client.get(V1, headers={**bearer(key), "Host": "any.example"}).status_code == 200


# --- keys


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def closed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, str, str, Path]]:
    """A service with keys for the default and another project."""
    directory = tmp_path_factory.mktemp("closed")
    database_url = empty_database(request.param, request, directory)
    other = create_key(directory, database_url, "other", "--project", "other")
    with serve(database_url, directory, bootstrap_api_key=BOOTSTRAP) as served:
        yield served, BOOTSTRAP, other, directory


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer wrong",
        f"Basic {BOOTSTRAP}",
        BOOTSTRAP,
        f"Bearer {BOOTSTRAP}x",
        f"Bearer {BOOTSTRAP[:-1]}",
        f"Bearer {BOOTSTRAP} {BOOTSTRAP}",
        f"Bearer {BOOTSTRAP.upper()}",
        f"Bearer{BOOTSTRAP}",
        "Bearer \xe9",
        "Bearer ' OR 1=1 --",
    ],
)
def test_requests_without_a_valid_key_are_rejected(
    closed: tuple[Served, str, str, Path], authorization: str | None
) -> None:
    served = closed[0]
    headers = {} if authorization is None else {b"Authorization": authorization.encode("latin-1")}
    for method, path in (("GET", V1), ("POST", V1), ("GET", f"{V1}/x"), ("DELETE", f"{V1}/task_{'0' * 32}")):
        response = served.client.request(method, path, headers=headers)
        assert problem(response) == (401, "unauthorized")
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert BOOTSTRAP not in response.text


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
def test_a_valid_key_is_accepted(closed: tuple[Served, str, str, Path], scheme: str) -> None:
    served, key, _, _ = closed
    assert served.client.get(V1, headers={"Authorization": scheme + key}).status_code == 200


def test_health_and_callbacks_need_no_key(closed: tuple[Served, str, str, Path]) -> None:
    served, key, _, _ = closed
    assert served.client.get("/healthz").status_code == 200
    assert served.client.get("/readyz").status_code == 200
    task = served.client.post(V1, json={"prompt": "x"}, headers=bearer(key)).json()
    submit = served.submit_of(task["id"])
    assert served.call_back(submit, {"code": 500, "msg": "no"}).status_code == 200


def test_tasks_of_another_project_cannot_be_read_or_changed(closed: tuple[Served, str, str, Path]) -> None:
    served, mine, other, _ = closed
    served.vendor.on_submit = lambda _: envelope(400, "no")
    task = served.client.post(V1, json={"prompt": "x"}, headers=bearer(mine)).json()
    path = f"{V1}/{task['id']}"
    until(lambda: served.client.get(path, headers=bearer(mine)).json()["status"] == "failed")
    for method, rest in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry"), ("GET", "/callbacks"), ("DELETE", "")):
        theirs = served.client.request(method, path + rest, headers=bearer(other))
        assert problem(theirs) == (404, "task_not_found")
    assert task["id"] not in served.client.get(V1, headers=bearer(other)).text
    assert task["id"] in served.client.get(V1, headers=bearer(mine)).text
    assert served.client.get(path, headers=bearer(mine)).status_code == 200
    served.calm()


def test_idempotency_keys_of_projects_are_independent(closed: tuple[Served, str, str, Path]) -> None:
    served, mine, other, _ = closed
    sent = [
        served.client.post(V1, json={"prompt": prompt}, headers={**bearer(key), "Idempotency-Key": "one"})
        for key, prompt in ((mine, "a"), (other, "b"))
    ]
    assert [response.status_code for response in sent] == [202, 202]
    assert sent[0].json()["id"] != sent[1].json()["id"]
    assert "Idempotent-Replayed" not in sent[1].headers


def test_a_revoked_key_is_rejected_at_once(closed: tuple[Served, str, str, Path]) -> None:
    served, _, _, directory = closed
    secret = create_key(directory, served.database_url, "short-lived")
    assert served.client.get(V1, headers=bearer(secret)).status_code == 200
    settings = {"DATABASE_URL": served.database_url, "SECRET_KEY": "test-secret"}
    listed = run_app(directory, "keys", "list", **settings).stdout.splitlines()
    key_id = next(line for line in listed if "short-lived" in line).split()[0]
    assert run_app(directory, "keys", "revoke", key_id, **settings).returncode == 0
    until(
        lambda: served.client.get(V1, headers=bearer(secret)).status_code == 401, seconds=1, what="the end of the key"
    )
    assert problem(served.client.get(V1, headers=bearer(secret))) == (401, "unauthorized")
    listed = run_app(directory, "keys", "list", **settings).stdout.splitlines()
    assert "last used 20" in next(line for line in listed if key_id in line)


def test_a_service_with_keys_accepts_any_host_and_origin(closed: tuple[Served, str, str, Path]) -> None:
    served, key, _, _ = closed
    headers = {**bearer(key), "Host": "images.example", "Origin": "https://shop.example"}
    assert served.client.get(V1, headers=headers).status_code == 200


# --- settings


def test_auth_none_accepts_requests_without_keys_even_if_keys_exist(tmp_path: Path) -> None:
    settings = {"auth": "none", "bootstrap_api_key": BOOTSTRAP}
    with LiveGateway(data_dir=tmp_path / "data", upstream_url="http://127.0.0.1:1", **settings) as gateway:
        assert gateway.client.get(V1).status_code == 200
        assert problem(gateway.client.get(V1, headers={"Host": "evil.example"})) == (403, "host_not_allowed")


def test_auth_keys_requires_a_key_even_if_none_exists(tmp_path: Path) -> None:
    with LiveGateway(data_dir=tmp_path / "data", upstream_url="http://127.0.0.1:1", auth="keys") as gateway:
        assert problem(gateway.client.get(V1)) == (401, "unauthorized")
        assert problem(gateway.client.get(V1, headers={"Host": "any.example"})) == (401, "unauthorized")


def test_only_allowed_hosts_are_accepted_with_and_without_keys(tmp_path: Path) -> None:
    for auth in ("keys", "none"):
        settings = {"allowed_hosts": "images.example, Other.Example", "auth": auth, "bootstrap_api_key": BOOTSTRAP}
        with LiveGateway(data_dir=tmp_path / "data", upstream_url="http://127.0.0.1:1", **settings) as gateway:
            for host, status in (("images.example:443", 200), ("OTHER.example", 200), ("127.0.0.1", 403)):
                response = gateway.client.get(V1, headers={**bearer(BOOTSTRAP), "Host": host})
                assert response.status_code == status
            assert gateway.client.get("/healthz").status_code == 200


@pytest.mark.parametrize("origin", ["http://localhost:3000", "http://127.0.0.1:1"])
def test_an_open_service_rejects_pages_on_other_local_ports(on_sqlite: Served, origin: str) -> None:
    response = on_sqlite.client.post(V1, json={"prompt": "x"}, headers={"Origin": origin})
    assert problem(response) == (403, "origin_not_allowed")
