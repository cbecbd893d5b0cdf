"""Canceling, retrying and deleting tasks, and requests sent twice."""

import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.servers.served import Served
from tests.support.servers.vendor import Reply, envelope, success_a

V1 = "/v1/tasks"
ENDS = ["succeeded", "failed", "canceled"]
STATES = ["queued", "submitting", "processing", *ENDS]


@pytest.fixture
def gate(served: Served) -> Iterator[threading.Event]:
    """Releases held replies when set, or when the test ends."""
    gate = threading.Event()
    yield gate
    gate.set()


def bring(served: Served, gate: threading.Event, status: str) -> dict[str, Any]:
    """Create a task and bring it into a state."""
    if status == "submitting":
        served.vendor.on_submit = lambda _: Reply({"code": 400, "msg": "no"}, gate=gate)
        task = served.client.submit(metadata={"a": "b"})
        served.submit_of(task["id"])
    elif status in {"queued", "canceled"}:
        # A temporary rejection with a long Retry-After, so the task waits in the queue again.
        served.vendor.on_submit = lambda _: envelope(503, "busy", Retry_After="600")
        task = served.client.submit(metadata={"a": "b"})
        served.submit_of(task["id"])
        served.client.wait_for(task["id"], "queued")
    else:
        task, submit = served.processing(metadata={"a": "b"})
        if status == "succeeded":
            served.call_back(submit, success_a(task["upstream_task_id"]))
        elif status == "failed":
            served.call_back(submit, {"code": 501, "msg": "no luck"})
    if status == "canceled":
        assert served.client.post(f"{V1}/{task['id']}/cancel").status_code == 200
    return served.client.wait_for(task["id"], status)


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json"
    return response.status_code, response.json()["code"]


def test_a_queued_task_is_canceled(served: Served, gate: threading.Event) -> None:
    task = bring(served, gate, "queued")
    response = served.client.post(f"{V1}/{task['id']}/cancel")
    assert response.status_code == 200
    canceled = response.json()
    assert (canceled["status"], canceled["error"], canceled["queue_position"]) == ("canceled", None, None)
    assert canceled["completed_at"] is not None
    assert canceled == served.client.task(task["id"])
    assert served.event_types(task["id"])[-1] == "task.canceled"


STATE = {
    "submitting": "is being submitted",
    "processing": "is processing",
    "succeeded": "has already succeeded",
    "failed": "has already failed",
    "canceled": "has already been canceled",
}


@pytest.mark.parametrize("status", [s for s in STATES if s != "queued"])
def test_other_tasks_are_not_canceled(served: Served, gate: threading.Event, status: str) -> None:
    task = bring(served, gate, status)
    response = served.client.post(f"{V1}/{task['id']}/cancel")
    assert problem(response) == (409, "not_cancelable")
    assert response.json()["detail"] == f"The task {STATE[status]}; only a queued task can be canceled."
    assert served.client.task(task["id"]) == task


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_failed_or_canceled_task_is_retried_as_a_new_one(served: Served, gate: threading.Event, status: str) -> None:
    old = bring(served, gate, status)
    served.calm()
    response = served.client.post(f"{V1}/{old['id']}/retry")
    assert response.status_code == 202
    new = response.json()
    assert new["id"] != old["id"]
    assert response.headers["Location"] == f"{V1}/{new['id']}"
    assert (new["retry_of"], new["status"], new["attempts"]) == (old["id"], "queued", 0)
    assert all(new[same] == old[same] for same in ("input", "model", "type", "metadata"))
    assert served.submit_of(new["id"]).body["prompt"] == old["input"]["prompt"]
    assert served.client.task(old["id"]) == old


@pytest.mark.parametrize("status", [s for s in STATES if s not in {"failed", "canceled"}])
def test_other_tasks_are_not_retried(served: Served, gate: threading.Event, status: str) -> None:
    task = bring(served, gate, status)
    assert problem(served.client.post(f"{V1}/{task['id']}/retry")) == (409, "not_retryable")


@pytest.mark.parametrize("status", ENDS)
def test_a_finished_task_is_deleted(served: Served, gate: threading.Event, status: str) -> None:
    task = bring(served, gate, status)
    response = served.client.delete(f"{V1}/{task['id']}")
    assert (response.status_code, response.content) == (204, b"")
    for method, path in (("GET", ""), ("GET", "/callbacks"), ("DELETE", ""), ("POST", "/retry"), ("POST", "/cancel")):
        gone = served.client.request(method, f"{V1}/{task['id']}{path}")
        assert problem(gone) == (404, "task_not_found")
    assert task["id"] not in served.client.get(V1, params={"limit": 200}).text
    assert served.event_types(task["id"]) == []


@pytest.mark.parametrize("status", [s for s in STATES if s not in ENDS])
def test_an_unfinished_task_is_not_deleted(served: Served, gate: threading.Event, status: str) -> None:
    task = bring(served, gate, status)
    assert problem(served.client.delete(f"{V1}/{task['id']}")) == (409, "not_deletable")
    assert served.client.task(task["id"]) == task


def test_deleting_a_task_keeps_its_retry(served: Served, gate: threading.Event) -> None:
    old = bring(served, gate, "failed")
    new = served.client.post(f"{V1}/{old['id']}/retry").json()
    assert served.client.delete(f"{V1}/{old['id']}").status_code == 204
    assert served.client.task(new["id"])["retry_of"] == old["id"]


# --- requests sent twice


def send(served: Served, key: str, **body: Any) -> httpx.Response:
    return served.client.post(V1, json={"prompt": "a lake", **body}, headers={"Idempotency-Key": key})


def test_a_repeated_request_returns_the_same_task_in_its_current_state(served: Served) -> None:
    key = uuid.uuid4().hex
    first = send(served, key, metadata={"a": "1", "b": "2"})
    assert first.status_code == 202
    assert "Idempotent-Replayed" not in first.headers
    task_id = first.json()["id"]
    processing = served.client.wait_for(task_id, "processing")
    again = send(served, key, metadata={"b": "2", "a": "1"})
    assert (again.status_code, again.json()) == (202, processing)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Location"] == f"{V1}/{task_id}"


@pytest.mark.parametrize(
    "other", [{"prompt": "b"}, {"num_images": 2}, {"model": "nano-banana-2"}, {"metadata": {"a": "b"}}]
)
def test_the_same_key_with_another_body_is_422(served: Served, other: dict[str, Any]) -> None:
    key = uuid.uuid4().hex
    task = send(served, key).json()
    assert problem(send(served, key, **other)) == (422, "idempotency_key_reused")
    assert send(served, key).json()["id"] == task["id"]


def test_a_rejected_request_does_not_use_up_its_key(served: Served) -> None:
    key = uuid.uuid4().hex
    assert problem(send(served, key, num_images=9)) == (422, "invalid_request")
    right = send(served, key, num_images=2)
    assert right.status_code == 202
    assert "Idempotent-Replayed" not in right.headers


def test_other_keys_and_no_key_create_other_tasks(served: Served) -> None:
    key = uuid.uuid4().hex
    found = {send(served, key).json()["id"], send(served, key.upper()).json()["id"], served.client.submit()["id"]}
    assert len(found) == 3


def test_twenty_identical_concurrent_requests_create_one_task(served: Served) -> None:
    key, prompt = uuid.uuid4().hex, f"a race {uuid.uuid4().hex}"
    answers: list[httpx.Response] = []
    barrier = threading.Barrier(20)

    def race() -> None:
        barrier.wait()
        answers.append(send(served, key, prompt=prompt))

    threads = [threading.Thread(target=race) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses = Counter(answer.status_code for answer in answers)
    assert set(statuses) <= {202, 409}
    assert all(problem(a) == (409, "idempotency_in_progress") for a in answers if a.status_code == 409)
    accepted = [answer for answer in answers if answer.status_code == 202]
    assert len({answer.json()["id"] for answer in accepted}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in accepted) == 1
    served.submit_of(accepted[0].json()["id"])
    assert sum(submit.body["prompt"] == prompt for submit in list(served.vendor.submits)) == 1
    tasks = served.client.get(V1, params={"limit": 200}).json()["data"]
    assert sum(task["input"]["prompt"] == prompt for task in tasks) == 1


def test_the_key_of_a_deleted_task_is_410(served: Served, gate: threading.Event) -> None:
    key = uuid.uuid4().hex
    served.vendor.on_submit = lambda _: envelope(400, "no")
    task = send(served, key).json()
    served.client.wait_for(task["id"], "failed")
    assert served.client.delete(f"{V1}/{task['id']}").status_code == 204
    assert problem(send(served, key)) == (410, "task_deleted")
    assert problem(send(served, key, prompt="other")) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("length", [1, 255])
def test_a_key_has_up_to_255_characters(served: Served, length: int) -> None:
    key = uuid.uuid4().hex[:1] if length == 1 else uuid.uuid4().hex.ljust(length, "k")
    assert send(served, key).status_code == 202
    assert send(served, key).headers["Idempotent-Replayed"] == "true"


@pytest.mark.parametrize("key", ["k" * 256, ""])
def test_a_key_of_another_length_is_422(served: Served, key: str) -> None:
    response = send(served, key)
    assert problem(response) == (422, "invalid_request")
    assert response.json()["errors"][0]["field"].lower() == "idempotency-key"


def test_a_key_may_have_any_visible_bytes(served: Served) -> None:
    headers = {b"Idempotency-Key": b"\xff\xe9 'quoted\" \\ %00 " + uuid.uuid4().bytes.hex().encode()}
    first = served.client.post(V1, json={"prompt": "x"}, headers=headers)
    again = served.client.post(V1, json={"prompt": "x"}, headers=headers)
    assert (first.status_code, again.json()["id"]) == (202, first.json()["id"])


def test_a_retry_sent_twice_creates_one_task(served: Served, gate: threading.Event) -> None:
    old, key = bring(served, gate, "failed"), uuid.uuid4().hex
    first = served.client.post(f"{V1}/{old['id']}/retry", headers={"Idempotency-Key": key})
    again = served.client.post(f"{V1}/{old['id']}/retry", headers={"Idempotency-Key": key})
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json()["id"] == first.json()["id"]
    assert again.headers["Idempotent-Replayed"] == "true"
    assert problem(send(served, key)) == (422, "idempotency_key_reused")
    other = bring(served, gate, "failed")
    reused = served.client.post(f"{V1}/{other['id']}/retry", headers={"Idempotency-Key": key})
    assert problem(reused) == (422, "idempotency_key_reused")
    without = served.client.post(f"{V1}/{old['id']}/retry")
    assert without.json()["id"] != first.json()["id"]


def test_a_repeated_retry_is_replayed_even_if_the_old_task_is_deleted(served: Served, gate: threading.Event) -> None:
    old, key = bring(served, gate, "failed"), uuid.uuid4().hex
    first = served.client.post(f"{V1}/{old['id']}/retry", headers={"Idempotency-Key": key})
    assert served.client.delete(f"{V1}/{old['id']}").status_code == 204
    again = served.client.post(f"{V1}/{old['id']}/retry", headers={"Idempotency-Key": key})
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert again.headers["Idempotent-Replayed"] == "true"
