"""Browser tokens: where they are accepted and how they end."""

import asyncio
import base64
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from app.access.projects import set_daily_budget
from app.clock import SystemClock
from app.db.engine import Database
from app.domain.browser_token import TOKEN_PREFIX
from app.web.permissions import QUERY_TOKEN_ROUTES, TOKEN_ROUTES
from tests.support.clients.event_reader import EventReader
from tests.support.clients.keys import KEY, V1, bearer, create_key, failed, make, problem, revoke_key, submit
from tests.support.clients.raw_connection import RawConnection
from tests.support.databases.postgres import PostgresServer
from tests.support.databases.sqlite import create_sqlite
from tests.support.images.samples import encode, noise
from tests.support.servers.gateway import LiveGateway
from tests.support.servers.served import Served, serve
from tests.support.servers.vendor import Vendor
from tests.support.waiting import until

# --- forged, expired, revoked


def test_a_changed_token_is_rejected(keyed_sqlite: Served) -> None:
    token = make(keyed_sqlite)
    for wrong in (token[:-1], token + "x", token[:-1] + ("A" if token[-1] != "A" else "B"), TOKEN_PREFIX + "x.y"):
        response = keyed_sqlite.client.get(V1, headers=bearer(wrong))
        assert problem(response) == (401, "unauthorized")
        assert "browser token is invalid" in response.json()["detail"]


def test_an_expired_token_ends_open_requests(keyed_sqlite: Served) -> None:
    keyed_sqlite.calm()
    token = make(keyed_sqlite, ttl_seconds=1)
    task = submit(keyed_sqlite, token).json()
    path = f"{V1}/{task['id']}"
    with keyed_sqlite.follow(**bearer(token)) as stream, ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(keyed_sqlite.client.get, f"{path}?wait=30", headers=bearer(token))
        posting = pool.submit(submit, keyed_sqlite, token, Prefer="wait=30")
        last = stream.wait_for_end()[-1]
        assert (last.id, last.type, last.data["code"]) == (None, "stream.cut", "unauthorized")
        assert "expired" in last.data["detail"]
        assert problem(waiting.result()) == (401, "unauthorized")
        # A task accepted before must not look refused.
        assert posting.result().status_code == 202
    response = keyed_sqlite.client.get(path, headers=bearer(token))
    assert problem(response) == (401, "unauthorized")
    assert "expired" in response.json()["detail"]


def test_a_slow_body_creates_nothing_after_its_key_or_token_ended(tmp_path: Path) -> None:
    given = {"bootstrap_api_key": KEY, "public_base_url": "http://localhost"}
    with serve(create_sqlite(tmp_path / "test.db"), tmp_path, **given) as served, ExitStack() as stack:
        key_id, secret = create_key(served.database_url, "leaked")
        token = make(served, ttl_seconds=1)
        body = b'{"prompt":"a lake"}'
        lines = []
        for path, kind in ((V1, "application/json"), ("/v1/uploads", "image/png")):
            for credential in (secret, token):
                line = stack.enter_context(closing(RawConnection(served.gateway.settings.port)))
                head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {credential}\r\n"
                head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
                line.send(head.encode() + body[:5])
                lines.append(line)
        revoke_key(served.database_url, key_id)
        for gone in (bearer(secret), bearer(token)):
            until(partial(_is_out, served, gone), what="the end of a key or token")
        for line in lines:
            line.send(body[5:])
            assert line.answer().problem == (401, "unauthorized")


def _is_out(served: Served, credential: dict[str, str]) -> bool:
    return served.client.get(V1, headers=credential).status_code == 401


# --- in the query


def test_streams_accept_a_token_in_the_query(keyed_sqlite: Served) -> None:
    token = make(keyed_sqlite, "by query")
    task = failed(keyed_sqlite, token)
    with keyed_sqlite.follow(f"{V1}/{task['id']}/events?access_token={token}") as stream:
        stream.wait_for_end()
        assert len(stream.events) == 3
    assert stream.headers["cache-control"] == "no-store, no-transform"
    assert stream.headers["referrer-policy"] == "no-referrer"
    with keyed_sqlite.follow(f"/v1/events?last_event_id=1&access_token={token}") as stream:
        stream.wait(lambda s: len(s.events) >= 3)
        assert {task_id for task_id, _ in stream.told} <= {task["id"]}


@pytest.mark.parametrize("query", [f"access_token={KEY}", "access_token=nbt_x.y", "access_token=", "access_token=x"])
@pytest.mark.parametrize("path", ["/v1/events", f"{V1}/task_{'0' * 32}/events"])
def test_streams_reject_other_credentials_in_the_query(keyed_sqlite: Served, path: str, query: str) -> None:
    response = keyed_sqlite.client.get(f"{path}?{query}")
    assert problem(response) == (401, "unauthorized")
    assert KEY not in response.text


def test_a_token_in_the_query_is_rejected_elsewhere(keyed_sqlite: Served) -> None:
    token = make(keyed_sqlite, "elsewhere")
    task = submit(keyed_sqlite, token).json()
    for method, path in TOKEN_ROUTES - QUERY_TOKEN_ROUTES:
        filled = path.replace("{task_id}", task["id"])
        response = keyed_sqlite.client.request(method, f"{filled}?access_token={token}", json={"prompt": "x"})
        assert response.status_code in {401, 404}, (method, path)
        assert token not in response.text
    listed = keyed_sqlite.client.get(f"{V1}?access_token={token}", headers=bearer(KEY))
    assert problem(listed) == (422, "invalid_request")
    assert token not in listed.text


# --- without keys


def test_an_open_service_honors_tokens(on_sqlite: Served) -> None:
    made = on_sqlite.client.post("/v1/tokens", json={"subject": "guest", "max_tasks": 1})
    token = made.json()["token"]
    task = submit(on_sqlite, token).json()
    assert task["subject"] == "guest"
    assert problem(submit(on_sqlite, token)) == (429, "token_exhausted")
    delete = on_sqlite.client.delete(f"{V1}/{task['id']}", headers=bearer(token))
    assert problem(delete) == (403, "forbidden")
    other = on_sqlite.client.post("/v1/tokens", json={"subject": "other"}).json()["token"]
    assert on_sqlite.client.get(f"{V1}/{task['id']}", headers=bearer(other)).status_code == 404
    assert problem(on_sqlite.client.get(V1, headers=bearer(token + "x"))) == (401, "unauthorized")
    with on_sqlite.follow(f"/v1/events?access_token={KEY}") as stream:
        assert stream.problem() == (401, "unauthorized")
    assert on_sqlite.client.get(f"{V1}/{task['id']}").status_code == 200


def test_a_token_made_without_keys_ends_when_keys_are_required(vendor: Vendor, tmp_path: Path) -> None:
    with LiveGateway(data_dir=tmp_path, upstream_url=vendor.url) as gateway:
        token = gateway.client.post("/v1/tokens", json={"subject": "guest"}).json()["token"]
        assert gateway.client.get(V1, headers=bearer(token)).status_code == 200
    with LiveGateway(data_dir=tmp_path, upstream_url=vendor.url, bootstrap_api_key=KEY) as gateway:
        response = gateway.client.get(V1, headers=bearer(token))
        assert problem(response) == (401, "unauthorized")
        assert "before API keys were required" in response.json()["detail"]


# --- uploads


def test_a_token_uploads_no_more_than_its_tasks_can_take(tmp_path: Path) -> None:
    image = encode(noise(), "PNG")
    inline = {"prompt": "x", "image_urls": [f"data:image/png;base64,{base64.b64encode(image).decode()}"]}
    given = {"bootstrap_api_key": KEY, "public_base_url": "http://localhost"}
    with serve(create_sqlite(tmp_path / "test.db"), tmp_path, **given) as served, ThreadPoolExecutor(8) as pool:

        def upload(secret: str) -> httpx.Response:
            return served.client.post(
                "/v1/uploads", content=image, headers=bearer(secret) | {"Content-Type": "image/png"}
            )

        def submit_with_image(secret: str) -> httpx.Response:
            return served.client.post(V1, json=inline, headers=bearer(secret))

        reader, token = make(served, max_tasks=0), make(served, max_tasks=1)
        assert problem(upload(reader)) == problem(submit_with_image(reader)) == (429, "token_exhausted")
        assert submit_with_image(token).status_code == 202
        # Images of a task refused for another reason are uploaded nevertheless.
        assert problem(submit_with_image(token)) == (429, "token_exhausted")
        answers = list(pool.map(upload, [token] * 16))
        assert sorted(r.status_code for r in answers) == [201] * 12 + [429] * 4
        refused = next(r for r in answers if r.status_code == 429)
        assert problem(refused) == problem(submit_with_image(token)) == (429, "token_exhausted")
        assert "14 uploads" in refused.json()["detail"]
        assert upload(KEY).status_code == 201
        with closing(sqlite3.connect(tmp_path / "test.db")) as database:
            assert database.execute("SELECT count(*) FROM uploads").fetchone() == (15,)


# --- revoked keys and rates


def test_a_revoked_key_ends_its_tokens_streams_and_waits_on_every_replica(
    vendor: Vendor, postgres: PostgresServer, tmp_path: Path
) -> None:
    database_url = postgres.create_database()
    given = {"database_url": database_url, "secret_key": "test-secret", "bootstrap_api_key": KEY}
    with (
        LiveGateway(data_dir=tmp_path / "a", upstream_url=vendor.url, **given) as gateway,
        LiveGateway(data_dir=tmp_path / "b", upstream_url=vendor.url, **given) as other,
        ExitStack() as stack,
    ):
        short = create_key(database_url, "short")
        made = gateway.client.post("/v1/tokens", json={"subject": "user-7"}, headers=bearer(short[1]))
        secrets = [short[1], made.json()["token"]]
        urls = [gateway.settings.local_url, other.settings.local_url]
        task = gateway.client.post(V1, json={"prompt": "x"}, headers=bearer(secrets[1])).json()
        path = f"{V1}/{task['id']}"
        ended = [
            stack.enter_context(EventReader(url, where, Authorization=f"Bearer {secret}"))
            for url in urls
            for secret in secrets
            for where in ("/v1/events", f"{path}/events")
        ]
        lasting = [stack.enter_context(EventReader(url, "/v1/events", Authorization=f"Bearer {KEY}")) for url in urls]
        pool = stack.enter_context(ThreadPoolExecutor(4))
        waits = [
            pool.submit(httpx.get, f"{url}{path}?wait=30", headers=bearer(secret), timeout=30, trust_env=False)
            for url in urls
            for secret in secrets
        ]
        opened = [each.container.events.open_requests for each in (gateway, other)]
        expected = len(waits) + len(ended) + len(lasting)
        until(lambda: sum(each.count for each in opened) == expected, what="all open requests")
        revoke_key(database_url, short[0])
        for stream in ended:
            last = stream.wait_for_end()[-1]
            assert (last.id, last.type, last.data["code"]) == (None, "stream.cut", "unauthorized")
        assert [wait.result().status_code for wait in waits] == [401] * len(waits)
        for url in urls:
            for secret in secrets:
                response = httpx.get(f"{url}{V1}", headers=bearer(secret), trust_env=False)
                assert problem(response) == (401, "unauthorized")
        assert not any(stream.is_over for stream in lasting)


def stored(served: Served) -> int:
    async def read() -> int:
        database = Database(served.database_url)
        try:
            return await database.read(
                lambda connection: connection.execute(text("SELECT count(*) FROM blobs")).scalar_one()
            )
        finally:
            await database.aclose()

    return asyncio.run(read())


def send(served: Served, secret: str, seed: int) -> httpx.Response:
    """Upload a picture of 10 KiB, rounded up."""
    picture = encode(noise(seed=seed), "PNG")
    assert 9 * 1024 < len(picture) <= 10 * 1024
    return served.client.post("/v1/uploads", content=picture, headers={**bearer(secret), "Content-Type": "image/png"})


def test_a_token_stores_bytes_in_proportion_to_its_tasks(database_url: str, tmp_path: Path) -> None:
    given = {"bootstrap_api_key": KEY, "public_base_url": "http://localhost", "max_upload_bytes": 25 * 1024}
    with serve(database_url, tmp_path, **given) as served, ThreadPoolExecutor(8) as pool:
        token, other = make(served), make(served, max_tasks=1)
        answers = list(pool.map(lambda seed: send(served, other, seed), range(1, 8)))
        assert sorted(r.status_code for r in answers) == [201] * 5 + [429] * 2
        before = stored(served)
        refused = send(served, other, 8)
        assert problem(refused) == (429, "token_exhausted")
        assert "50 KiB of uploads" in refused.json()["detail"]
        assert stored(served) == before
        assert [send(served, secret, 9).status_code for secret in (token, KEY)] == [201] * 2


def test_a_project_stores_a_number_of_bytes_per_day(database_url: str, tmp_path: Path) -> None:
    given = {"bootstrap_api_key": KEY, "public_base_url": "http://localhost", "upload_bytes_per_day": 45 * 1024}
    with serve(database_url, tmp_path, **given) as served:
        token, (_, other) = make(served), create_key(database_url, "other", "shop")
        assert [send(served, secret, 1).status_code for secret in (KEY, token, KEY, token)] == [201] * 4
        before = stored(served)
        for secret in (KEY, token):
            refused = send(served, secret, 2)
            assert problem(refused) == (429, "daily_uploads_exceeded")
            assert 0 < int(refused.headers["Retry-After"]) <= 86_400
        assert stored(served) == before
        assert send(served, other, 2).status_code == 201


def test_a_repeated_request_stores_nothing_and_is_answered_beyond_the_limit(database_url: str, tmp_path: Path) -> None:
    picture = base64.b64encode(encode(noise(seed=1), "PNG")).decode()
    given = {"bootstrap_api_key": KEY, "public_base_url": "http://localhost", "upload_bytes_per_day": 25 * 1024}
    with serve(database_url, tmp_path, **given) as served:

        def post(prompt: str, key: str) -> httpx.Response:
            body = {"prompt": prompt, "image_urls": [f"data:image/png;base64,{picture}"]}
            return served.client.post(V1, json=body, headers={**bearer(KEY), "Idempotency-Key": key})

        first, *again = [post("x", "once") for _ in range(4)]
        assert {(r.status_code, r.json()["id"]) for r in again} == {(202, first.json()["id"])}
        assert {r.headers["Idempotent-Replayed"] for r in again} == {"true"}
        assert problem(post("y", "once")) == (422, "idempotency_key_reused")
        assert post("x", "twice").status_code == 202
        assert problem(post("x", "thrice")) == (429, "daily_uploads_exceeded")


def test_a_key_and_its_tokens_share_a_rate(tmp_path: Path) -> None:
    with serve(create_sqlite(tmp_path / "test.db"), tmp_path, bootstrap_api_key=KEY, key_rate_limit="3/60") as served:
        token = make(served)
        answers = [submit(served, secret) for secret in (KEY, token, token, KEY, token)]
        assert [r.status_code for r in answers] == [202, 202, 202, 429, 429]
        assert problem(answers[3]) == (429, "rate_limited")
        assert 50 <= int(answers[3].headers["Retry-After"]) <= 60
        retry = served.client.post(f"{V1}/{answers[0].json()['id']}/cancel", headers=bearer(KEY))
        assert retry.status_code in {200, 409}  # only submits count
        assert served.client.get(V1, headers=bearer(token)).status_code == 200


def test_requests_that_create_no_task_do_not_count_toward_the_rate(tmp_path: Path) -> None:
    with serve(create_sqlite(tmp_path / "test.db"), tmp_path, bootstrap_api_key=KEY, key_rate_limit="3/60") as served:
        token = make(served, max_tasks=1)
        once = {"Idempotency-Key": "once"}
        assert [submit(served, token, **once).status_code for _ in range(5)] == [202] * 5
        assert {problem(submit(served, token)) for _ in range(5)} == {(429, "token_exhausted")}
        assert served.client.post(V1, json={"prompt": ""}, headers=bearer(KEY)).status_code == 422
        assert [submit(served, KEY).status_code for _ in range(3)] == [202, 202, 429]
        assert problem(submit(served, KEY)) == (429, "rate_limited")


def test_without_keys_there_is_no_rate_limit(tmp_path: Path) -> None:
    with serve(create_sqlite(tmp_path / "test.db"), tmp_path, key_rate_limit="1/60") as served:
        token = served.client.post("/v1/tokens", json={"subject": "guest"}).json()["token"]
        assert [submit(served, token).status_code for _ in range(3)] == [202] * 3
        assert [served.client.submit()["status"] for _ in range(3)] == ["queued"] * 3


def test_a_daily_budget_takes_effect_as_soon_as_it_is_set(keyed_sqlite: Served) -> None:
    async def allow(tasks: int | None) -> None:
        database = Database(keyed_sqlite.database_url)
        await set_daily_budget(database, SystemClock(), "default", tasks)
        await database.aclose()

    assert submit(keyed_sqlite, KEY).status_code == 202
    asyncio.run(allow(1))
    refused = until(lambda: found if (found := submit(keyed_sqlite, KEY)).status_code == 429 else None)
    assert problem(refused) == (429, "daily_budget_exceeded")
    assert 1 <= int(refused.headers["Retry-After"]) <= 86_400
    # The project's tokens too.
    assert problem(submit(keyed_sqlite, make(keyed_sqlite))) == (429, "daily_budget_exceeded")
    asyncio.run(allow(None))
    until(lambda: submit(keyed_sqlite, KEY).status_code == 202)
