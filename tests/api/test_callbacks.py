"""What the upstream may say at a task's callback address, and what it is told."""

import json
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from app.domain.callback import CallbackTokens
from tests.support.served import Served, empty_database, serve
from tests.support.vendor import Reply, accepted, envelope, success_a

LIMIT = 256 * 1024
URL = "https://tempfile.example/a.png"
RECEIVED, DUPLICATE = {"status": "received"}, {"status": "duplicate"}


def failure_a(upstream_id: str, code: Any, message: str = "no luck") -> dict[str, Any]:
    return {"code": code, "msg": message, "data": {"taskId": upstream_id, "info": {"resultImageUrl": ""}}}


def shape_b(upstream_id: str, flag: Any, **more: Any) -> dict[str, Any]:
    data = {"taskId": upstream_id, "successFlag": flag, "response": None, "errorCode": None, "errorMessage": None}
    return {"code": 200, "msg": "success", "data": {**data, **more}}


def post(served: Served, url: str, content: bytes) -> httpx.Response:
    return served.client.post(url, content=content, headers={"Content-Type": "application/json"})


def answer(response: httpx.Response) -> tuple[int, Any]:
    body = response.json()
    return response.status_code, body if response.status_code == 200 else body["code"]


def sources(task: dict[str, Any]) -> list[str]:
    return [image["source_url"] for image in task["images"]]


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


def test_a_rightly_signed_token_of_no_task_is_404(served: Served) -> None:

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


# --- verdicts


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


def test_the_vendors_time_stamps_decide_nothing(on_sqlite: Served) -> None:
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
def test_after_a_verdict_everything_is_a_duplicate(on_sqlite: Served, second: Any) -> None:
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


def test_of_many_callbacks_at_once_one_counts(served: Served) -> None:
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


# --- what can't be understood


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b"[]",
        b"null",
        b'"success"',
        b"{}",
        b'{"code": 200',
        b"code=200&msg=success",
        b"\xff\xfe\x00garbage",
        b"\x80\x81",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"data":' * 20_000 + b"1" + b"}" * 20_000,
        b'{"code":' + b"9" * 10_000 + b"}",
        b'{"code":-' + b"9" * 4_000 + b"}",
        b'{"code":NaN}',
        b'{"code":Infinity,"data":{"successFlag":NaN}}',
        b'{"code":1e999}',
        b'{"code":true,"data":{"successFlag":true}}',
        b'{"code":200.0}',
        b'{"code":418000}',
        b'{"code":"two hundred"}',
        b'{"data":{"successFlag":7}}',
        b'{"data":{"successFlag":null}}',
        b'{"data":{"successFlag":[1]}}',
        b'{"data":"[[["}',
        b'{"code":200,"data":null}',
    ],
)
def test_what_cannot_be_understood_is_422_and_kept(on_sqlite: Served, body: bytes) -> None:
    task, submit = on_sqlite.processing()
    response = post(on_sqlite, submit.callback_url, body)
    assert answer(response) == (422, "unreadable_callback")
    assert response.headers["content-type"] == "application/problem+json"
    assert on_sqlite.client.task(task["id"]) == task
    (kept,) = on_sqlite.kept(task["id"])
    assert (kept["status"], kept["answer"]) == (422, "unreadable_callback")
    assert kept["body"] == body.decode(errors="backslashreplace")


@pytest.mark.parametrize(
    "body",
    [
        lambda _: b"garbage",
        lambda i: success_a(i, ""),
        lambda i: success_a(i, "ftp://tempfile.example/a.png"),
        lambda i: success_a(i, "javascript:alert(1)"),
        lambda i: success_a(i, "https://"),
        lambda i: success_a(i, "/a.png"),
        lambda i: {"code": 200, "data": {"taskId": i}},
        lambda i: {"code": 200, "data": {"taskId": i, "info": {"resultImageUrl": None}}},
        lambda i: {"code": 200, "data": {"taskId": i, "info": {"resultImageUrl": {"url": URL}}}},
        lambda _: {"code": 200, "data": {"info": {"resultImageUrl": URL}}},
        lambda _: success_a("", URL),
        lambda _: {"code": 200, "data": {"taskId": 17, "info": {"resultImageUrl": URL}}},
        lambda _: success_a("a b", URL),
        lambda i: shape_b(i, 1),
        lambda i: shape_b(i, 1, response={"resultImageUrl": ""}),
        lambda _: {"code": 200, "data": {"successFlag": 1, "response": {"resultImageUrl": URL}}},
    ],
)
def test_what_gives_no_result_makes_the_gateway_ask_at_once(on_sqlite: Served, body: Any) -> None:
    task, submit = on_sqlite.processing()
    upstream_id = task["upstream_task_id"]
    assert answer(on_sqlite.call_back(submit, body(upstream_id))) == (422, "unreadable_callback")
    on_sqlite.vendor.wait_for_polls(1, upstream_id)
    assert on_sqlite.client.task(task["id"])["status"] == "processing"
    assert answer(on_sqlite.call_back(submit, success_a(upstream_id))) == (200, RECEIVED)


def test_the_answer_to_the_poll_ends_the_task(served: Served) -> None:
    task, submit = served.processing()
    upstream_id = task["upstream_task_id"]
    served.vendor.on_poll = lambda asked: Reply(
        shape_b(asked, 1, response={"resultImageUrl": URL}) if asked == upstream_id else shape_b(asked, 0)
    )
    assert served.call_back(submit, b"garbage").status_code == 422
    assert sources(served.client.wait_for(task["id"], "succeeded")) == [URL]


def test_much_garbage_makes_few_polls(on_sqlite: Served) -> None:
    task, submit = on_sqlite.processing()
    upstream_id = task["upstream_task_id"]
    for _ in range(25):
        assert on_sqlite.call_back(submit, b"garbage").status_code == 422
    on_sqlite.vendor.wait_for_polls(1, upstream_id)
    for _ in range(25):
        assert on_sqlite.call_back(submit, b"garbage").status_code == 422
    assert on_sqlite.polls_about(upstream_id) <= 2


def test_only_the_last_twenty_bodies_are_kept(served: Served) -> None:
    task, submit = served.processing()
    for number in range(27):
        served.call_back(submit, f"garbage {number}".encode())
    assert [kept["body"] for kept in served.kept(task["id"])] == [f"garbage {n}" for n in range(26, 6, -1)]
    assert set(served.kept(task["id"])[0]) == {"received_at", "status", "answer", "body"}


def test_the_last_twenty_stay_when_many_come_at_once(served: Served) -> None:
    task, submit = served.processing()
    threads = [threading.Thread(target=lambda: served.call_back(submit, b"garbage")) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(served.kept(task["id"])) == 20


# --- hostile words


def test_control_characters_and_lone_surrogates_leave_the_message(served: Served) -> None:
    task, submit = served.processing()
    body = json.dumps(failure_a(task["upstream_task_id"], 501, "a\x00b\ud800c\x1b[31m \U0001f34c")).encode()
    assert answer(served.call_back(submit, body)) == (200, RECEIVED)
    assert served.client.task(task["id"])["error"]["message"] == "abc[31m \U0001f34c"


def test_raw_surrogate_bytes_in_a_message_are_survived(served: Served) -> None:
    task, submit = served.processing()
    body = b'{"code":501,"msg":"a\xed\xa0\x80b","data":{"taskId":"%s"}}' % task["upstream_task_id"].encode()
    assert served.call_back(submit, body).status_code == 200
    assert served.client.task(task["id"])["error"]["message"] == "ab"
    assert served.kept(task["id"])[0]["body"] == body.decode(errors="backslashreplace")


@pytest.mark.parametrize(
    "bad", ["https://x.example/a\x00.png", "https://x.example/\ud800.png", "https://x.example/a b"]
)
def test_an_impossible_url_is_no_result(served: Served, bad: str) -> None:
    task, submit = served.processing()
    assert answer(served.call_back(submit, success_a(task["upstream_task_id"], bad))) == (422, "unreadable_callback")


def test_an_impossible_url_beside_a_good_one_is_dropped(served: Served) -> None:
    task, submit = served.processing()
    body = success_a(task["upstream_task_id"])
    body["data"]["info"] = {"resultImageUrls": ["https://x.example/\x00", "https://x.example/\udfff", URL, "", None, 5]}
    assert answer(served.call_back(submit, body)) == (200, RECEIVED)
    assert sources(served.client.task(task["id"])) == [URL]


@pytest.mark.parametrize("length", [9, 33, 300, 4_000])
def test_an_endless_error_code_still_ends_the_task(served: Served, length: int) -> None:
    task, submit = served.processing()
    body = shape_b(task["upstream_task_id"], 3, errorCode=int("7" * length), errorMessage="no luck")
    assert answer(served.call_back(submit, body)) == (200, RECEIVED)
    error = served.client.task(task["id"])["error"]
    assert (error["code"], error["message"]) == ("generation_failed", "no luck")
    assert len(error["upstream_code"]) <= 32


def test_an_endless_message_is_shortened(served: Served) -> None:
    task, submit = served.processing()
    body = failure_a(task["upstream_task_id"], 501, "\U0001f34c" * 20_000)
    assert answer(served.call_back(submit, body)) == (200, RECEIVED)
    assert 0 < len(served.client.task(task["id"])["error"]["message"]) <= 2_000


def test_the_upstream_key_never_comes_back(served: Served) -> None:
    task, submit = served.processing()
    body = failure_a(task["upstream_task_id"], 501, "your key upstream-key is odd")
    assert answer(served.call_back(submit, body)) == (200, RECEIVED)
    assert "upstream-key" not in served.client.get(f"/v1/tasks/{task['id']}").text
    assert "upstream-key" not in served.client.get(f"/v1/tasks/{task['id']}/callbacks").text
    assert served.client.task(task["id"])["error"]["message"] == "your key *** is odd"


def test_the_upstream_key_does_not_come_back_by_record_info(served: Served) -> None:
    task, submit = served.processing()
    served.vendor.on_poll = lambda asked: Reply(shape_b(asked, 3, errorMessage="your key upstream-key is odd"))
    served.call_back(submit, b"garbage")
    assert served.client.wait_for(task["id"], "failed")["error"]["message"] == "your key *** is odd"


# --- several images

ONE, TWO = "https://x.example/1.png?a=1,2", "https://x.example/2.png"


@pytest.mark.parametrize("key", ["resultImageUrl", "resultImageUrls", "result_urls", "resultUrls"])
@pytest.mark.parametrize(
    "value",
    [
        [ONE, TWO],
        f"{ONE},{TWO}",
        f" {ONE} , {TWO} ,",
        json.dumps([ONE, TWO]),
        [ONE, "", None, TWO, ONE],
        json.dumps([ONE, "", TWO, TWO]),
    ],
)
def test_several_images_come_in_any_spelling(on_sqlite: Served, key: str, value: Any) -> None:
    for body in (
        lambda i: {"code": 200, "msg": "ok", "data": {"taskId": i, "info": {key: value}}},
        lambda i: shape_b(i, 1, response={"originImageUrl": None, key: value}),
    ):
        task, submit = on_sqlite.processing()
        assert answer(on_sqlite.call_back(submit, body(task["upstream_task_id"]))) == (200, RECEIVED)
        assert sources(on_sqlite.client.task(task["id"])) == [ONE, TWO]


def test_images_keep_their_order_and_have_ids_of_their_own(served: Served) -> None:
    task, submit = served.processing(num_images=4)
    urls = [f"https://x.example/{n}.png" for n in (3, 1, 4, 2)]
    assert answer(served.call_back(submit, success_a(task["upstream_task_id"], ",".join(urls)))) == (200, RECEIVED)
    images = served.client.task(task["id"])["images"]
    assert [image["source_url"] for image in images] == urls
    assert len({image["id"] for image in images}) == 4
    assert all(image["id"].startswith("img_") and image["state"] == "unavailable" for image in images)


# --- a callback that beats our own knowledge


@pytest.mark.parametrize("early", ["success", "failure", "notice"])
def test_a_callback_that_beats_the_reply_counts(served: Served, early: str) -> None:
    gate, upstream_id = threading.Event(), uuid.uuid4().hex
    served.vendor.on_submit = lambda _: Reply(
        {"code": 200, "msg": "success", "data": {"taskId": upstream_id}}, gate=gate
    )
    task = served.client.submit()
    submit = served.submit_of(task["id"])
    assert served.client.task(task["id"])["status"] == "submitting"
    body, status = {
        "success": (success_a(upstream_id, URL), "succeeded"),
        "failure": (failure_a(upstream_id, 501), "failed"),
        "notice": (shape_b(upstream_id, 0), "processing"),
    }[early]
    assert answer(served.call_back(submit, body)) == (200, RECEIVED)
    before = served.client.task(task["id"])
    assert (before["status"], before["upstream_task_id"]) == (status, upstream_id)
    gate.set()
    # Another task's way out and back proves that the held reply has had its time.
    served.calm()
    served.processing()
    after = served.client.task(task["id"])
    assert (after["status"], after["images"], after["upstream_task_id"]) == (status, before["images"], upstream_id)
    assert served.event_types(task["id"]) == ["task.queued", "task.submitting", f"task.{status}"]
    assert answer(served.call_back(submit, success_a(upstream_id, URL)))[0] == 200


def test_a_refusal_does_not_undo_an_earlier_verdict(served: Served) -> None:
    gate, upstream_id = threading.Event(), uuid.uuid4().hex
    refusal = envelope(400, "never heard of it")
    served.vendor.on_submit = lambda _: Reply(refusal.body, gate=gate)
    task = served.client.submit()
    submit = served.submit_of(task["id"])
    assert answer(served.call_back(submit, success_a(upstream_id, URL))) == (200, RECEIVED)
    gate.set()
    served.calm()
    served.processing()
    assert served.client.task(task["id"])["status"] == "succeeded"


def test_a_notice_supplies_the_id_of_a_submit_without_reply(served: Served) -> None:
    served.vendor.on_submit = lambda _: Reply(hang_up=True)
    task, upstream_id = served.client.submit(), uuid.uuid4().hex
    submit = served.submit_of(task["id"])
    assert answer(served.call_back(submit, shape_b(upstream_id, "0"))) == (200, RECEIVED)
    found = served.client.task(task["id"])
    assert (found["status"], found["upstream_task_id"], found["attempts"]) == ("processing", upstream_id, 1)


def test_a_notice_about_a_task_at_work_changes_nothing(served: Served) -> None:
    task, submit = served.processing()
    assert answer(served.call_back(submit, shape_b(task["upstream_task_id"], 0))) == (200, RECEIVED)
    assert served.client.task(task["id"]) == task


# --- late verdicts replace our own guesses


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def impatient(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("impatient")
    with serve(empty_database(request.param, request, directory), directory, task_timeout_seconds=0.2) as served:
        yield served


@pytest.mark.parametrize("late", ["success", "failure"])
@pytest.mark.parametrize("guess", ["timeout", "submission_unknown"])
def test_a_late_verdict_replaces_a_guess(impatient: Served, guess: str, late: str) -> None:
    upstream_id = uuid.uuid4().hex
    reply = accepted(upstream_id) if guess == "timeout" else Reply(hang_up=True)
    impatient.vendor.on_submit = lambda _: reply
    task = impatient.client.submit()
    submit = impatient.submit_of(task["id"])
    failed = impatient.client.wait_for(task["id"], "failed")
    assert failed["error"]["code"] == guess
    if guess == "submission_unknown":
        assert failed["upstream_task_id"] is None
        # Garbage and other tasks' notices leave the guess alone.
        assert impatient.call_back(submit, b"garbage").status_code == 422
        assert impatient.client.task(task["id"]) == failed
    body = success_a(upstream_id, URL) if late == "success" else failure_a(upstream_id, 400, "bad words")
    assert answer(impatient.call_back(submit, body)) == (200, RECEIVED)
    done = impatient.client.task(task["id"])
    assert done["upstream_task_id"] == upstream_id
    if late == "success":
        assert (done["status"], done["error"], sources(done)) == ("succeeded", None, [URL])
    else:
        assert done["error"] == {"code": "content_policy", "message": "bad words", "upstream_code": "400"}
    first = ["task.queued", "task.submitting", *(["task.processing"] if guess == "timeout" else []), "task.failed"]
    assert impatient.event_types(task["id"]) == [*first, f"task.{done['status']}"]
    assert answer(impatient.call_back(submit, body)) == (200, DUPLICATE)


def test_another_tasks_verdict_does_not_replace_a_guess(impatient: Served) -> None:
    impatient.vendor.on_submit = lambda _: accepted()
    task = impatient.client.submit()
    submit = impatient.submit_of(task["id"])
    failed = impatient.client.wait_for(task["id"], "failed")
    assert answer(impatient.call_back(submit, success_a("0" * 32))) == (409, "task_mismatch")
    assert impatient.client.task(task["id"]) == failed


def test_a_late_notice_brings_the_id_but_no_event(impatient: Served) -> None:
    impatient.vendor.on_submit = lambda _: Reply(hang_up=True)
    task, upstream_id = impatient.client.submit(), uuid.uuid4().hex
    submit = impatient.submit_of(task["id"])
    impatient.client.wait_for(task["id"], "failed")
    assert answer(impatient.call_back(submit, shape_b(upstream_id, 0))) == (200, RECEIVED)
    found = impatient.client.task(task["id"])
    assert (found["status"], found["upstream_task_id"]) == ("failed", upstream_id)
    assert impatient.event_types(task["id"]) == ["task.queued", "task.submitting", "task.failed"]
    impatient.vendor.wait_for_polls(1, upstream_id)
