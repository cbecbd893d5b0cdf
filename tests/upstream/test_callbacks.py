"""Callbacks: tokens, sizes and results."""

import json
import threading
import uuid
from typing import Any

import pytest

from app.domain.callback import CallbackTokens
from tests.support.clients.callbacks import DUPLICATE, LIMIT, RECEIVED, URL, answer, failure_a, post, shape_b, sources
from tests.support.servers.served import Served
from tests.support.servers.vendor import success_a

# --- the address


def _forge(token: str) -> str:
    return token[:-1] + ("A" if token[-1] != "A" else "E")


@pytest.mark.parametrize(
    "bend",
    [
        lambda _: "nonsense",
        lambda _: "0" * 32,
        lambda token: token.partition("-")[0],
        lambda token: token[:-1],
        lambda token: token + "A",
        _forge,
        lambda token: uuid.uuid4().hex + token[32:],
        lambda token: "task_" + token,
        str.upper,
        lambda token: token + "%0A",
        lambda token: token + "%00",
        lambda _: "%00",
        lambda _: "%F0%9F%8D%8C",
        lambda token: "x" * 5000 + token,
    ],
)
def test_a_wrong_token_is_404_and_stores_nothing(on_sqlite: Served, bend: Any) -> None:
    task, submit = on_sqlite.processing()
    base, _, token = submit.callback_url.rpartition("/")
    response = post(on_sqlite, f"{base}/{bend(token)}", json.dumps(success_a(task["upstream_task_id"])).encode())
    assert (response.status_code, response.json()["code"]) == (404, "unknown_callback")
    assert response.headers["content-type"] == "application/problem+json"
    assert on_sqlite.client.task(task["id"]) == task
    assert on_sqlite.kept(task["id"]) == []


def test_a_token_signed_with_another_secret_is_404(served: Served) -> None:

    task, submit = served.processing()
    base = submit.callback_url.rpartition("/")[0]
    forged = CallbackTokens(["another-secret"]).sign(task["id"])
    assert post(served, f"{base}/{forged}", b"{}").status_code == 404
    assert served.kept(task["id"]) == []


def test_a_valid_token_without_a_task_is_404(served: Served) -> None:

    _, submit = served.processing()
    base = submit.callback_url.rpartition("/")[0]
    token = CallbackTokens(["test-secret"]).sign(f"task_{uuid.uuid4().hex}")
    response = post(served, f"{base}/{token}", json.dumps(success_a("x")).encode())
    assert answer(response) == (404, "unknown_callback")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_other_methods_are_405(on_sqlite: Served, method: str) -> None:
    _, submit = on_sqlite.processing()
    response = on_sqlite.client.request(method, submit.callback_url)
    assert answer(response) == (405, "method_not_allowed")


def test_the_callback_of_a_deleted_task_is_404(served: Served) -> None:
    task, submit = served.processing()
    served.call_back(submit, success_a(task["upstream_task_id"]))
    assert served.client.delete(f"/v1/tasks/{task['id']}").status_code == 204
    assert answer(served.call_back(submit, success_a(task["upstream_task_id"]))) == (404, "unknown_callback")
    assert answer(served.call_back(submit, b"garbage")) == (404, "unknown_callback")


# --- the size


def test_a_body_of_exactly_the_limit_is_read(served: Served) -> None:
    task, submit = served.processing()
    body = json.dumps(success_a(task["upstream_task_id"])).encode()
    assert answer(post(served, submit.callback_url, body + b" " * (LIMIT - len(body)))) == (200, RECEIVED)
    assert len(served.kept(task["id"])[0]["body"]) == LIMIT


def test_one_byte_more_is_413_and_stores_nothing(served: Served) -> None:
    task, submit = served.processing()
    body = json.dumps(success_a(task["upstream_task_id"])).encode()
    too_long = body + b" " * (LIMIT + 1 - len(body))
    assert answer(post(served, submit.callback_url, too_long)) == (413, "body_too_large")
    chunked = served.client.post(submit.callback_url, content=iter([too_long[:LIMIT], too_long[LIMIT:]]))
    assert answer(chunked) == (413, "body_too_large")
    assert served.client.task(task["id"]) == task
    assert served.kept(task["id"]) == []


# --- results


@pytest.mark.parametrize(
    ("model", "body"),
    [
        ("nano-banana", lambda i: success_a(i, URL)),
        ("nano-banana-pro", lambda i: {**success_a(i, URL), "code": "200"}),
        ("nano-banana-2", lambda i: shape_b(i, 1, response={"originImageUrl": None, "resultImageUrl": URL})),
        ("nano-banana-2", lambda i: shape_b(i, "1", response={"resultImageUrl": URL}, errorCode="0")),
        ("nano-banana", lambda i: shape_b(i, 1, response={"resultImageUrl": URL}, errorCode=0, errorMessage="")),
        ("nano-banana-2", lambda i: success_a(i, URL)),
    ],
)
def test_a_success_in_either_shape_ends_the_task(served: Served, model: str, body: Any) -> None:
    task, submit = served.processing(model=model)
    assert answer(served.call_back(submit, body(task["upstream_task_id"]))) == (200, RECEIVED)
    done = served.client.task(task["id"])
    assert (done["status"], done["error"], sources(done)) == ("succeeded", None, [URL])
    assert done["completed_at"] is not None
    assert served.event_types(task["id"]) == ["task.queued", "task.submitting", "task.processing", "task.succeeded"]


@pytest.mark.parametrize(
    ("body", "code", "upstream_code"),
    [
        (lambda i: failure_a(i, 400), "content_policy", "400"),
        (lambda i: failure_a(i, "400"), "content_policy", "400"),
        (lambda i: failure_a(i, 500), "upstream_error", "500"),
        (lambda i: failure_a(i, "500"), "upstream_error", "500"),
        (lambda i: failure_a(i, 501), "generation_failed", "501"),
        (lambda i: failure_a(i, " 501 "), "generation_failed", "501"),
        (lambda i: failure_a(i, 501, "blocked by our content policy"), "content_policy", "501"),
        (lambda i: shape_b(i, 2, errorMessage="no luck"), "generation_failed", "2"),
        (lambda i: shape_b(i, "3", errorCode="0", errorMessage="no luck"), "generation_failed", "3"),
        (lambda i: shape_b(i, 3, errorCode=500, errorMessage="no luck"), "generation_failed", "500"),
        (lambda i: shape_b(i, 3, errorCode="400", errorMessage="no luck"), "content_policy", "400"),
        (lambda i: shape_b(i, 2, errorMessage="flagged as NSFW"), "content_policy", "2"),
    ],
)
def test_a_failure_in_either_shape_ends_the_task(served: Served, body: Any, code: str, upstream_code: str) -> None:
    task, submit = served.processing()
    sent = body(task["upstream_task_id"])
    assert answer(served.call_back(submit, sent)) == (200, RECEIVED)
    done = served.client.task(task["id"])
    message = sent["msg"] if sent["code"] != 200 else sent["data"]["errorMessage"]
    assert done["status"] == "failed"
    assert done["error"] == {"code": code, "message": message, "upstream_code": upstream_code}
    assert done["images"] == []


def test_a_failure_need_not_repeat_the_task_id(on_sqlite: Served) -> None:
    task, submit = on_sqlite.processing()
    assert answer(on_sqlite.call_back(submit, {"code": 500, "message": "boom"})) == (200, RECEIVED)
    done = on_sqlite.client.task(task["id"])
    assert (done["error"]["code"], done["error"]["message"]) == ("upstream_error", "boom")
    assert done["upstream_task_id"] == task["upstream_task_id"]


def test_the_vendors_timestamps_are_ignored(on_sqlite: Served) -> None:
    task, submit = on_sqlite.processing()
    times = {"createTime": "2026-01-06 24:00:00", "completeTime": "0000-99-99 99:99:99"}
    body = shape_b(task["upstream_task_id"], 1, response={"resultImageUrl": URL}, **times)
    assert answer(on_sqlite.call_back(submit, body)) == (200, RECEIVED)
    assert on_sqlite.client.task(task["id"])["status"] == "succeeded"


@pytest.mark.parametrize(
    "second",
    [
        success_a,
        lambda i: success_a(i, "https://tempfile.example/other.png"),
        lambda i: failure_a(i, 400),
        lambda i: shape_b(i, 0),
        lambda _: success_a("0" * 32),
        lambda _: {"code": 200},
        lambda _: b"garbage",
    ],
)
def test_after_a_result_everything_is_a_duplicate(on_sqlite: Served, second: Any) -> None:
    task, submit = on_sqlite.processing()
    on_sqlite.call_back(submit, success_a(task["upstream_task_id"]))
    done = on_sqlite.client.task(task["id"])
    assert answer(on_sqlite.call_back(submit, second(task["upstream_task_id"]))) == (200, DUPLICATE)
    assert on_sqlite.client.task(task["id"]) == done
    assert on_sqlite.event_types(task["id"]).count("task.succeeded") == 1
    assert [kept["answer"] for kept in on_sqlite.kept(task["id"])] == ["duplicate", "received"]


def test_a_failed_task_is_not_revived(served: Served) -> None:
    task, submit = served.processing()
    served.call_back(submit, failure_a(task["upstream_task_id"], 501))
    assert answer(served.call_back(submit, success_a(task["upstream_task_id"]))) == (200, DUPLICATE)
    assert served.client.task(task["id"])["status"] == "failed"


def test_one_of_many_concurrent_callbacks_counts(served: Served) -> None:
    task, submit = served.processing()
    answers: list[Any] = []
    bodies = [success_a(task["upstream_task_id"], f"https://x.example/{n}.png") for n in range(12)]
    threads = [
        threading.Thread(target=lambda body=body: answers.append(answer(served.call_back(submit, body))))
        for body in bodies
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(a[1]["status"] for a in answers) == ["duplicate"] * 11 + ["received"]
    assert len(served.client.task(task["id"])["images"]) == 1


@pytest.mark.parametrize("body", [success_a, lambda i: failure_a(i, 400), lambda i: shape_b(i, 0)])
def test_another_task_id_is_409_and_kept_and_changes_nothing(served: Served, body: Any) -> None:
    task, submit = served.processing()
    sent = body("f" * 32)
    assert answer(served.call_back(submit, sent)) == (409, "task_mismatch")
    assert served.client.task(task["id"]) == task
    (kept,) = served.kept(task["id"])
    assert (kept["status"], kept["answer"], json.loads(kept["body"])) == (409, "task_mismatch", sent)
    assert answer(served.call_back(submit, success_a(task["upstream_task_id"]))) == (200, RECEIVED)
