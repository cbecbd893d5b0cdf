"""Requests that wait for a task: `Prefer: wait=N`, `?wait=N`."""

import gc
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from app.tasks.requests import TaskRequest
from tests.support.servers.served import Served
from tests.support.servers.vendor import Reply, envelope, success_a
from tests.support.waiting import until

V1 = "/v1/tasks"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    gate = threading.Event()
    yield gate
    gate.set()


def waiters(served: Served, count: int) -> None:
    until(
        lambda: served.gateway.container.events.open_requests.count == count or None, what=f"{count} waiting requests"
    )


def wait_for_result(
    served: Served, pool: ThreadPoolExecutor, task: dict[str, Any], wait: int = 60
) -> "Future[httpx.Response]":
    return pool.submit(served.client.get, f"{V1}/{task['id']}", params={"wait": wait})


def submit(served: Served, prefer: str, **headers: str) -> httpx.Response:
    return served.client.post(V1, json={"prompt": "a lake"}, headers={"Prefer": prefer, **headers})


def succeed(served: Served, task_id: str) -> dict[str, Any]:
    """Let a task succeed."""
    submitted = served.submit_of(task_id)
    task = served.client.wait_for(task_id, "processing")
    assert served.call_back(submitted, success_a(task["upstream_task_id"])).status_code == 200
    return served.client.task(task_id)


def test_a_get_returns_when_the_result_arrives(served: Served, pool: ThreadPoolExecutor) -> None:
    task, submitted = served.processing()
    answers = [wait_for_result(served, pool, task) for _ in range(5)]
    waiters(served, 5)
    served.call_back(submitted, success_a(task["upstream_task_id"]))
    for answer in (future.result() for future in answers):
        assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, "wait=60")
        assert answer.json() == served.client.task(task["id"])
        assert (answer.json()["status"], len(answer.json()["images"])) == ("succeeded", 1)
    waiters(served, 0)


def test_a_submit_returns_when_the_result_arrives(served: Served, pool: ThreadPoolExecutor) -> None:
    with served.follow() as stream:
        waiting = pool.submit(submit, served, "wait=60")
        stream.wait(lambda s: len(s.events) == 3)
        task_id = stream.events[0].data["id"]
        assert not waiting.done()
        task = succeed(served, task_id)
    answer = waiting.result()
    assert (answer.status_code, answer.json()) == (200, task)
    assert (answer.headers["Location"], answer.headers["Preference-Applied"]) == (f"{V1}/{task_id}", "wait=60")


def test_a_waiting_submit_keeps_no_body(served: Served, pool: ThreadPoolExecutor) -> None:
    waiting = pool.submit(submit, served, "wait=60")
    waiters(served, 1)
    assert not [each for each in gc.get_objects() if isinstance(each, TaskRequest)]
    succeed(served, served.client.get(V1).json()["data"][0]["id"])
    assert waiting.result().status_code == 200


def test_a_retry_can_wait_as_well(served: Served) -> None:
    served.vendor.on_submit = lambda _: envelope(400, "no")
    failed = submit(served, "wait=30")
    assert (failed.status_code, failed.json()["error"]["code"]) == (200, "invalid_request")
    again = served.client.post(f"{V1}/{failed.json()['id']}/retry", headers={"Prefer": "wait=30"})
    assert (again.status_code, again.json()["status"]) == (200, "failed")
    assert (again.json()["retry_of"], again.headers["Preference-Applied"]) == (failed.json()["id"], "wait=30")


@pytest.mark.parametrize("seconds", [0, 1])
def test_without_a_result_the_current_state_is_returned(served: Served, gate: threading.Event, seconds: int) -> None:
    served.vendor.on_submit = lambda _: Reply({"code": 400, "msg": "no"}, gate=gate)
    posted = submit(served, f"wait={seconds}")
    assert (posted.status_code, posted.headers["Preference-Applied"]) == (202, f"wait={seconds}")
    served.submit_of(posted.json()["id"])
    got = served.client.get(f"{V1}/{posted.json()['id']}", params={"wait": seconds})
    assert (got.status_code, got.headers["Preference-Applied"]) == (200, f"wait={seconds}")
    assert got.json()["status"] == "submitting"


def test_a_finished_task_is_returned_at_once(served: Served) -> None:
    served.vendor.on_submit = lambda _: envelope(400, "no")
    key = uuid.uuid4().hex
    first = submit(served, "wait=30", **{"Idempotency-Key": key})
    assert first.status_code == 200
    replay = submit(served, "wait=30", **{"Idempotency-Key": key})
    assert (replay.status_code, replay.json()) == (200, first.json())
    assert (replay.headers["Idempotent-Replayed"], replay.headers["Preference-Applied"]) == ("true", "wait=30")
    plain = served.client.post(V1, json={"prompt": "a lake"}, headers={"Idempotency-Key": key})
    assert (plain.status_code, plain.json()) == (202, first.json())
    got = served.client.get(f"{V1}/{first.json()['id']}", params={"wait": 30})
    assert (got.json(), got.headers["Preference-Applied"]) == (first.json(), "wait=30")


def test_a_cancellation_ends_the_wait(served: Served, pool: ThreadPoolExecutor) -> None:
    served.vendor.on_submit = lambda _: envelope(503, "busy", Retry_After="600")
    task = served.client.submit()
    served.submit_of(task["id"])
    served.client.wait_for(task["id"], "queued")
    waiting = wait_for_result(served, pool, task)
    waiters(served, 1)
    assert served.client.post(f"{V1}/{task['id']}/cancel").status_code == 200
    assert waiting.result().json()["status"] == "canceled"


def test_a_client_that_disconnects_stops_waiting(served: Served) -> None:
    task, _ = served.processing()
    with pytest.raises(httpx.ReadTimeout):
        served.client.get(f"{V1}/{task['id']}", params={"wait": 60}, timeout=0.3)
    waiters(served, 0)
    with pytest.raises(httpx.ReadTimeout):
        served.client.post(V1, json={"prompt": "x"}, headers={"Prefer": "wait=60"}, timeout=0.3)
    waiters(served, 0)


@pytest.mark.parametrize("wait", ["x", "-1", "61", "1.5", "1e1", " 1", "99999999999999999999999"])
def test_an_invalid_wait_in_the_query_is_422(on_sqlite: Served, wait: str) -> None:
    answer = on_sqlite.client.get(f"{V1}/task_{'0' * 32}", params={"wait": wait})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "wait")


def test_waiting_for_an_unknown_task_is_404(served: Served) -> None:
    answer = served.client.get(f"{V1}/task_{'0' * 32}", params={"wait": 60})
    assert (answer.status_code, answer.json()["code"]) == (404, "task_not_found")


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("wait=30", "wait=30"),
        ("Wait = 30", "wait=30"),
        ('wait="30"', "wait=30"),
        ("wait=0030", "wait=30"),
        ("wait=61", "wait=60"),
        ("wait=" + "9" * 500, "wait=60"),
        ("respond-async, wait=30", "wait=30"),
        ("respond-async;a=b; wait=5 , wait=30", "wait=30"),
        ('x="wait=5, wait=6; \\" ", wait=30', "wait=30"),
        ("wait=30; x=y", "wait=30"),
        ("wait=30, wait=5", "wait=30"),
        (",, wait=30 ,", "wait=30"),
        ('"broken, wait=30', "wait=30"),
        ("wait", None),
        ("wait=", None),
        ('wait=""', None),
        ("wait=soon", None),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait=soon, wait=30", None),
        ("waiting=30", None),
        ('x="wait=30"', None),
        ("x; wait=30", None),
        ("", None),
        ("handling=lenient", None),
        ("wait=30, x=" + "y" * 1000, None),
    ],
)
def test_the_preference_is_parsed_as_in_rfc_7240(on_sqlite: Served, prefer: str, applied: str | None) -> None:
    on_sqlite.vendor.on_submit = lambda _: envelope(400, "no")
    answer = submit(on_sqlite, prefer)
    assert answer.headers.get("Preference-Applied") == applied
    assert answer.status_code == (200 if applied else 202)
    on_sqlite.client.wait_for(answer.json()["id"], "failed")
    got = on_sqlite.client.get(f"{V1}/{answer.json()['id']}", headers={"Prefer": prefer})
    assert got.headers.get("Preference-Applied") == applied


def test_several_prefer_headers_are_combined(on_sqlite: Served) -> None:
    on_sqlite.vendor.on_submit = lambda _: envelope(400, "no")
    headers = [("Prefer", "respond-async"), ("Prefer", "wait=20")]
    answer = on_sqlite.client.post(V1, json={"prompt": "x"}, headers=headers)
    assert answer.headers["Preference-Applied"] == "wait=20"


def test_the_query_takes_precedence_over_the_header(on_sqlite: Served) -> None:
    on_sqlite.vendor.on_submit = lambda _: envelope(400, "no")
    task = submit(on_sqlite, "wait=30").json()
    got = on_sqlite.client.get(f"{V1}/{task['id']}", params={"wait": 5}, headers={"Prefer": "wait=30"})
    assert got.headers["Preference-Applied"] == "wait=5"
    empty = on_sqlite.client.get(f"{V1}/{task['id']}", params={"wait": ""})
    assert "Preference-Applied" not in empty.headers
