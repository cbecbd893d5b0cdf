"""Callbacks seen in the wild, and how each is read."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients.callbacks import RECEIVED, answer, sources
from tests.support.servers.served import Served
from tests.support.servers.vendor import Reply

CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("callback_cases.json").read_text())
RESULTS = [case for case in CASES if "status" in case["expect"]]
ID = "9e4286b7b27960dfeb8e1d279b50b28d"


def body_for(case: dict[str, Any], task: dict[str, Any]) -> Any:
    """Return a case's body about a task."""
    return json.loads(json.dumps(case["body"]).replace(ID, task["upstream_task_id"]))


def check(task: dict[str, Any], expected: dict[str, Any]) -> None:
    assert task["status"] == expected["status"]
    assert sources(task) == expected.get("images", [])
    for field in ("code", "message", "upstream_code"):
        if field in expected:
            assert task["error"][field] == expected[field]


@pytest.mark.parametrize("case", RESULTS, ids=[case["name"] for case in RESULTS])
def test_callbacks_are_read_correctly(on_sqlite: Served, case: dict[str, Any]) -> None:
    task, submit = on_sqlite.processing()
    assert answer(on_sqlite.call_back(submit, body_for(case, task))) == (200, RECEIVED)
    check(on_sqlite.client.task(task["id"]), case["expect"])


@pytest.mark.parametrize("case", RESULTS, ids=[case["name"] for case in RESULTS])
def test_records_are_read_correctly(on_sqlite: Served, case: dict[str, Any]) -> None:
    task, submit = on_sqlite.processing()
    polled = {task["upstream_task_id"]: Reply(body_for(case, task))}
    calm = on_sqlite.vendor.on_poll
    on_sqlite.vendor.on_poll = lambda asked: polled.get(asked) or calm(asked)
    if "successFlag" not in json.dumps(case["body"]) and case["expect"]["status"] == "failed":
        pytest.skip("shape A, which record-info does not have")
    assert on_sqlite.call_back(submit, b"garbage").status_code == 422
    check(on_sqlite.client.wait_for(task["id"]), case["expect"])


def test_a_success_without_a_url_is_422_and_polled_at_once(on_sqlite: Served) -> None:
    (case,) = [case for case in CASES if case["expect"].get("answer")]
    task, submit = on_sqlite.processing()
    response = on_sqlite.call_back(submit, body_for(case, task))
    assert answer(response) == (case["expect"]["answer"], "unreadable_callback")
    assert "success without http(s) image URL" in response.json()["detail"]
    on_sqlite.vendor.wait_for_polls(1, task["upstream_task_id"])
    assert on_sqlite.client.task(task["id"])["status"] == "processing"


def test_a_record_need_not_repeat_the_task_id(on_sqlite: Served) -> None:
    task, submit = on_sqlite.processing()
    url = "https://img.example.com/a.png"
    record = {"code": 200, "data": {"successFlag": 1, "response": {"resultImageUrl": url}}}
    on_sqlite.vendor.on_poll = lambda _: Reply(record)
    assert on_sqlite.call_back(submit, b"garbage").status_code == 422
    assert sources(on_sqlite.client.wait_for(task["id"], "succeeded")) == [url]
