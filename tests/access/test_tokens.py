"""Browser tokens: how they are created and what they allow."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.clock import isoformat
from app.domain.browser_token import TOKEN_PREFIX
from app.web.permissions import TOKEN_ROUTES
from tests.support.clients.keys import KEY, V1, bearer, failed, make, problem, submit
from tests.support.servers.served import Served

# --- creation


def test_a_token_is_created_as_requested(keyed_sqlite: Served) -> None:
    before = time.time()
    response = keyed_sqlite.client.post(
        "/v1/tokens", json={"subject": "user-7", "ttl_seconds": 60, "max_tasks": 3}, headers=bearer(KEY)
    )
    assert response.status_code == 201
    assert response.headers["cache-control"] == "no-store"
    assert set(response.json()) == {"token", "expires_at"}
    token, expires_at = response.json()["token"], response.json()["expires_at"]
    assert token.startswith(TOKEN_PREFIX)
    assert isoformat(int((before + 59) * 1000)) < expires_at < isoformat(int((time.time() + 61) * 1000))
    assert submit(keyed_sqlite, token).json()["subject"] == "user-7"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "subject"),
        ({"subject": ""}, "subject"),
        ({"subject": " "}, "subject"),
        ({"subject": "a\nb"}, "subject"),
        ({"subject": "a\x00b"}, "subject"),
        ({"subject": "s" * 256}, "subject"),
        ({"subject": 7}, "subject"),
        ({"subject": "u", "ttl_seconds": 0}, "ttl_seconds"),
        ({"subject": "u", "ttl_seconds": 86_401}, "ttl_seconds"),
        ({"subject": "u", "ttl_seconds": 1.5}, "ttl_seconds"),
        ({"subject": "u", "ttl_seconds": "900"}, "ttl_seconds"),
        ({"subject": "u", "ttl_seconds": True}, "ttl_seconds"),
        ({"subject": "u", "max_tasks": -1}, "max_tasks"),
        ({"subject": "u", "max_tasks": 10_001}, "max_tasks"),
        ({"subject": "u", "project": "other"}, "project"),
    ],
)
def test_an_invalid_request_names_the_field(keyed_sqlite: Served, body: dict[str, Any], field: str) -> None:
    response = keyed_sqlite.client.post("/v1/tokens", json=body, headers=bearer(KEY))
    assert problem(response) == (422, "invalid_request")
    assert [error["field"] for error in response.json()["errors"]] == [field]


@pytest.mark.parametrize("body", [{"ttl_seconds": 1}, {"ttl_seconds": 86_400}, {"max_tasks": 0}, {"max_tasks": None}])
def test_the_limits_themselves_are_allowed(keyed_sqlite: Served, body: dict[str, Any]) -> None:
    assert make(keyed_sqlite, **body)


def test_tokens_can_only_be_created_with_an_api_key(keyed_sqlite: Served) -> None:
    body = {"subject": "user-7"}
    assert problem(keyed_sqlite.client.post("/v1/tokens", json=body)) == (401, "unauthorized")
    by_token = keyed_sqlite.client.post("/v1/tokens", json=body, headers=bearer(make(keyed_sqlite)))
    assert problem(by_token) == (403, "forbidden")


# --- what they may do


def test_a_token_can_only_use_listed_routes(keyed_sqlite: Served) -> None:
    token = make(keyed_sqlite)
    task = failed(keyed_sqlite, token)
    document = keyed_sqlite.client.get("/openapi.json").json()
    asked = 0
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if not operation["security"] or (method.upper(), path) in TOKEN_ROUTES:
                continue
            filled = path.replace("{task_id}", task["id"]).replace("{delivery_id}", "whd_" + "0" * 32)
            response = keyed_sqlite.client.request(method, filled, headers=bearer(token))
            assert problem(response) == (403, "forbidden"), (method, path)
            asked += 1
    assert asked >= 8
    assert keyed_sqlite.client.get(f"{V1}/{task['id']}", headers=bearer(KEY)).status_code == 200


def test_a_token_submits_reads_lists_follows_and_retries(keyed: Served) -> None:
    token = make(keyed, subject="does it all")
    task = failed(keyed, token)
    path = f"{V1}/{task['id']}"
    assert keyed.client.get(path, headers=bearer(token)).json()["id"] == task["id"]
    with keyed.follow(f"{path}/events", **bearer(token)) as stream:
        stream.wait_for_end()
        assert [status for _, status in stream.told] == ["queued", "submitting", "failed"]
    again = keyed.client.post(f"{path}/retry", headers=bearer(token))
    assert again.status_code == 202
    assert (again.json()["retry_of"], again.json()["subject"]) == (task["id"], "does it all")
    listed = keyed.client.get(V1, headers=bearer(token)).json()["data"]
    assert [one["id"] for one in listed] == [again.json()["id"], task["id"]]


def test_a_token_cannot_set_a_webhook_url(keyed_sqlite: Served) -> None:
    token = make(keyed_sqlite)
    for url in ("https://shop.example/hook", "http://127.0.0.1/"):
        response = keyed_sqlite.client.post(V1, json={"prompt": "x", "webhook_url": url}, headers=bearer(token))
        assert problem(response) == (403, "forbidden")


def test_subjects_see_only_their_own_tasks(keyed: Served) -> None:
    mine, twin, other = make(keyed, "mine"), make(keyed, "mine"), make(keyed, "other")
    task = failed(keyed, mine)
    path = f"{V1}/{task['id']}"
    assert keyed.client.get(path, headers=bearer(twin)).status_code == 200
    for method, rest in (("GET", ""), ("GET", "/events"), ("POST", "/retry"), ("GET", "?wait=1")):
        assert problem(keyed.client.request(method, path + rest, headers=bearer(other))) == (404, "task_not_found")
    assert keyed.client.get(V1, headers=bearer(other)).json()["data"] == []
    by_key = failed(keyed, KEY)
    assert problem(keyed.client.get(f"{V1}/{by_key['id']}", headers=bearer(mine))) == (404, "task_not_found")


def test_idempotency_keys_of_subjects_are_independent(keyed: Served) -> None:
    secrets = [make(keyed, "mine"), make(keyed, "mine"), make(keyed, "other"), KEY]
    same = {"Idempotency-Key": "the same for all"}
    mine, twin, other, by_key = (submit(keyed, secret, **same) for secret in secrets)
    assert {r.status_code for r in (mine, twin, other, by_key)} == {202}
    assert twin.json()["id"] == mine.json()["id"]
    assert twin.headers["Idempotent-Replayed"] == "true"
    assert len({r.json()["id"] for r in (mine, other, by_key)}) == 3


def test_a_tokens_stream_only_has_events_of_its_subject(keyed: Served) -> None:
    mine, other = make(keyed, "stream mine"), make(keyed, "stream other")
    with keyed.follow(**bearer(mine)) as stream, keyed.follow(**bearer(KEY)) as everything:
        tasks = [failed(keyed, secret)["id"] for secret in (mine, other, KEY, mine)]
        everything.wait(lambda s: all((task_id, "failed") in s.told for task_id in tasks))
        stream.wait(lambda s: len(s.events) == 6)
        assert {task_id for task_id, _ in stream.told} == {tasks[0], tasks[3]}
        first = stream.ids[0]
    with keyed.follow(last_id=first, **bearer(mine)) as resumed:
        resumed.wait(lambda s: len(s.events) == 5)
        assert {task_id for task_id, _ in resumed.told} == {tasks[0], tasks[3]}
    with keyed.follow(last_id=first - 1, **bearer(other)) as resumed:
        resumed.wait(lambda s: len(s.events) == 3)
        assert {task_id for task_id, _ in resumed.told} == {tasks[1]}


# --- how many


def test_max_tasks_holds_under_a_race(keyed: Served) -> None:
    token = make(keyed, "racer", max_tasks=5)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: submit(keyed, token), range(16)))
    assert sorted(r.status_code for r in answers) == [202] * 5 + [429] * 11
    refused = next(r for r in answers if r.status_code == 429)
    assert problem(refused) == (429, "token_exhausted")
    assert 1 <= int(refused.headers["Retry-After"]) <= 900
    assert len(keyed.client.get(V1, headers=bearer(token)).json()["data"]) == 5


def test_retries_count_but_refused_requests_and_replays_do_not(keyed_sqlite: Served) -> None:
    token = make(keyed_sqlite, "counter", max_tasks=2)
    wrong = keyed_sqlite.client.post(V1, json={"prompt": ""}, headers=bearer(token))
    assert wrong.status_code == 422
    task = submit(keyed_sqlite, token, **{"Prefer": "wait=15", "Idempotency-Key": "k"}).json()
    assert submit(keyed_sqlite, token, **{"Idempotency-Key": "k"}).status_code == 202
    retry = f"{V1}/{task['id']}/retry"
    assert keyed_sqlite.client.post(retry, headers=bearer(token)).status_code == 202
    assert problem(keyed_sqlite.client.post(retry, headers=bearer(token))) == (429, "token_exhausted")
    assert problem(submit(keyed_sqlite, token)) == (429, "token_exhausted")
    assert submit(keyed_sqlite, token, **{"Idempotency-Key": "k"}).status_code == 202
