"""Callbacks that are unreadable, hostile or unusual."""

import json
import threading
from typing import Any

import pytest

from tests.support.clients.callbacks import RECEIVED, URL, answer, failure_a, post, shape_b, sources
from tests.support.servers.served import Served
from tests.support.servers.vendor import Reply, success_a

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
def test_an_unreadable_callback_is_422_and_kept(on_sqlite: Served, body: bytes) -> None:
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
        lambda i: {"code": 200, "data": {"taskId": i, "info": {"resultImageUrl": {"size": URL}}}},
        lambda _: {"code": 200, "data": {"info": {"resultImageUrl": URL}}},
        lambda _: success_a("", URL),
        lambda _: {"code": 200, "data": {"taskId": True, "info": {"resultImageUrl": URL}}},
        lambda _: success_a("a b", URL),
        lambda i: shape_b(i, 1),
        lambda i: shape_b(i, 1, response={"resultImageUrl": ""}),
        lambda _: {"code": 200, "data": {"successFlag": 1, "response": {"resultImageUrl": URL}}},
    ],
)
def test_a_callback_without_a_result_causes_a_poll(on_sqlite: Served, body: Any) -> None:
    task, submit = on_sqlite.processing()
    upstream_id = task["upstream_task_id"]
    assert answer(on_sqlite.call_back(submit, body(upstream_id))) == (422, "unreadable_callback")
    on_sqlite.vendor.wait_for_polls(1, upstream_id)
    assert on_sqlite.client.task(task["id"])["status"] == "processing"
    assert answer(on_sqlite.call_back(submit, success_a(upstream_id))) == (200, RECEIVED)


def test_the_result_of_the_poll_ends_the_task(served: Served) -> None:
    task, submit = served.processing()
    upstream_id = task["upstream_task_id"]
    served.vendor.on_poll = lambda asked: Reply(
        shape_b(asked, 1, response={"resultImageUrl": URL}) if asked == upstream_id else shape_b(asked, 0)
    )
    assert served.call_back(submit, b"garbage").status_code == 422
    assert sources(served.client.wait_for(task["id"], "succeeded")) == [URL]


def test_much_garbage_causes_few_polls(on_sqlite: Served) -> None:
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


def test_the_last_twenty_are_kept_under_concurrency(served: Served) -> None:
    task, submit = served.processing()
    threads = [threading.Thread(target=lambda: served.call_back(submit, b"garbage")) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(served.kept(task["id"])) == 20


# --- hostile words


def test_control_characters_and_lone_surrogates_are_removed_from_messages(served: Served) -> None:
    task, submit = served.processing()
    body = json.dumps(failure_a(task["upstream_task_id"], 501, "a\x00b\ud800c\x1b[31m \U0001f34c")).encode()
    assert answer(served.call_back(submit, body)) == (200, RECEIVED)
    assert served.client.task(task["id"])["error"]["message"] == "abc[31m \U0001f34c"


def test_raw_surrogate_bytes_in_a_message_do_no_harm(served: Served) -> None:
    task, submit = served.processing()
    body = b'{"code":501,"msg":"a\xed\xa0\x80b","data":{"taskId":"%s"}}' % task["upstream_task_id"].encode()
    assert served.call_back(submit, body).status_code == 200
    assert served.client.task(task["id"])["error"]["message"] == "ab"
    assert served.kept(task["id"])[0]["body"] == body.decode(errors="backslashreplace")


@pytest.mark.parametrize("bad", ["https://x.example/a\x00.png", "https://x.example/\ud800.png", "https://x .example/a"])
def test_an_invalid_url_is_no_result(served: Served, bad: str) -> None:
    task, submit = served.processing()
    assert answer(served.call_back(submit, success_a(task["upstream_task_id"], bad))) == (422, "unreadable_callback")


def test_an_invalid_url_next_to_a_valid_one_is_dropped(served: Served) -> None:
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


def test_the_upstream_key_is_removed_from_messages(served: Served) -> None:
    task, submit = served.processing()
    body = failure_a(task["upstream_task_id"], 501, "your key upstream-key is odd")
    assert answer(served.call_back(submit, body)) == (200, RECEIVED)
    assert "upstream-key" not in served.client.get(f"/v1/tasks/{task['id']}").text
    assert "upstream-key" not in served.client.get(f"/v1/tasks/{task['id']}/callbacks").text
    assert served.client.task(task["id"])["error"]["message"] == "your key *** is odd"


def test_the_upstream_key_is_removed_from_record_info(served: Served) -> None:
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
def test_several_images_are_read_in_any_format(on_sqlite: Served, key: str, value: Any) -> None:
    for body in (
        lambda i: {"code": 200, "msg": "ok", "data": {"taskId": i, "info": {key: value}}},
        lambda i: shape_b(i, 1, response={"originImageUrl": None, key: value}),
    ):
        task, submit = on_sqlite.processing()
        assert answer(on_sqlite.call_back(submit, body(task["upstream_task_id"]))) == (200, RECEIVED)
        assert sources(on_sqlite.client.task(task["id"])) == [ONE, TWO]


def test_images_keep_their_order_and_have_their_own_ids(served: Served) -> None:
    task, submit = served.processing(num_images=4)
    urls = [f"https://x.example/{n}.png" for n in (3, 1, 4, 2)]
    assert answer(served.call_back(submit, success_a(task["upstream_task_id"], ",".join(urls)))) == (200, RECEIVED)
    images = served.client.task(task["id"])["images"]
    assert [image["source_url"] for image in images] == urls
    assert len({image["id"] for image in images}) == 4
    assert all(image["id"].startswith("img_") and image["state"] == "unavailable" for image in images)
