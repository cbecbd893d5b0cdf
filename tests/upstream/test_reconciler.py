"""Tasks without a callback: polled, timed out, never sent again."""

import signal
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support.fixtures import Start
from tests.support.servers.gateway import LiveGateway
from tests.support.servers.gateway_process import GatewayProcess
from tests.support.servers.vendor import Reply, Vendor, accepted, envelope, record, success_a

URL = "https://tempfile.example/a.png"
SUCCESS = {"response": {"resultImageUrl": URL}}


@pytest.mark.parametrize(
    ("flag", "more", "code"),
    [
        (3, {"errorMessage": "it broke"}, "generation_failed"),
        ("2", {"errorCode": "400", "errorMessage": "no"}, "content_policy"),
    ],
)
def test_a_poll_finds_the_result_without_a_callback(
    start: Start, vendor: Vendor, flag: Any, more: dict[str, Any], code: str
) -> None:
    gateway = start(poll_after_seconds=0.2)
    good, bad = gateway.client.submit()["id"], gateway.client.submit()["id"]
    failing = gateway.client.wait_for(bad, "processing")["upstream_task_id"]
    vendor.on_poll = lambda asked: record(asked, flag, **more) if asked == failing else record(asked, 1, **SUCCESS)
    assert gateway.client.wait_for(good)["images"][0]["source_url"] == URL
    failed = gateway.client.wait_for(bad)
    assert (failed["status"], failed["error"]["code"]) == ("failed", code)


def test_polls_without_an_answer_are_repeated_with_growing_pauses(start: Start, vendor: Vendor) -> None:
    gateway = start(poll_after_seconds=0.4)
    in_vain = [envelope(404, "no such task"), Reply(b"<html>", status=502), Reply(hang_up=True)]
    vendor.on_poll = lambda asked: in_vain.pop(0) if in_vain else record(asked, "1", **SUCCESS)
    task = gateway.client.wait_for(gateway.client.submit()["id"], seconds=30)
    assert task["status"] == "succeeded"
    at = [moment for _, moment in vendor.polls]
    pauses = [later - earlier for earlier, later in pairwise(at)]
    assert len(pauses) == 3
    for number, pause in enumerate(pauses, 1):
        # The loop runs once a second.
        assert 0.4 * 1.5**number - 0.1 <= pause <= 0.4 * 1.5**number + 2.5


def test_a_timeout_follows_a_last_poll_and_a_later_result_replaces_it(start: Start, vendor: Vendor) -> None:
    gateway = start(task_timeout_seconds=2)
    began = time.monotonic()
    task = gateway.client.wait_for(gateway.client.submit()["id"])
    assert task["error"]["code"] == "timeout"
    assert [asked for asked, _ in vendor.polls] == [task["upstream_task_id"]]
    assert vendor.polls[0][1] - began >= 2
    assert vendor.call_back(vendor.submits[0], success_a(task["upstream_task_id"])).json() == {"status": "received"}
    assert gateway.client.task(task["id"])["status"] == "succeeded"


def test_the_last_poll_can_find_the_result(start: Start, vendor: Vendor) -> None:
    gateway = start(task_timeout_seconds=1)
    vendor.on_poll = lambda asked: record(asked, 1, **SUCCESS)
    assert gateway.client.wait_for(gateway.client.submit()["id"])["status"] == "succeeded"
    assert len(vendor.polls) == 1


def test_a_storm_of_garbage_causes_few_polls(gateway: LiveGateway, vendor: Vendor) -> None:
    gate = threading.Event()
    vendor.on_poll = lambda asked: Reply(record(asked, 0).body, gate=gate)
    task = gateway.client.submit()["id"]
    gateway.client.wait_for(task, "processing")
    began = time.monotonic()
    for _ in range(30):
        assert vendor.call_back(vendor.submits[0], b"garbage").status_code == 422
        if not vendor.polls:
            vendor.wait_for_polls(1)
    assert len(vendor.polls) <= 1 + (time.monotonic() - began) / 2
    gate.set()
    assert gateway.client.task(task)["status"] == "processing"
    assert len(gateway.client.get(f"/v1/tasks/{task}/callbacks").json()["data"]) == 20


def environment(vendor: Vendor) -> dict[str, Any]:
    return {
        "NANOBANANA_API_KEY": "upstream-key",
        "NANOBANANA_BASE_URL": vendor.url,
        "UPSTREAM_RATE_LIMIT": "0",
        "UPSTREAM_CONCURRENCY": "2",
        "POLL_AFTER_SECONDS": "30",
        "TASK_TIMEOUT_SECONDS": "6",
    }


@pytest.mark.slow
def test_a_task_in_flight_when_the_process_died_is_not_sent_again(vendor: Vendor, tmp_path: Path) -> None:
    gate = threading.Event()
    vendor.on_submit = lambda _: Reply(accepted().body, gate=gate)
    with GatewayProcess(tmp_path, environment(vendor)) as first:
        tasks = [first.client.submit(prompt=f"{n}")["id"] for n in range(4)]
        in_hand = vendor.wait_for_submits(2)
        port = first.port
        first.stop(signal.SIGKILL)
    gate.set()
    vendor.on_submit = lambda _: accepted()
    with GatewayProcess(tmp_path, environment(vendor), port=port) as second:
        for task in tasks[2:]:
            second.client.wait_for(task, "processing")
        assert [second.client.task(task)["status"] for task in tasks[:2]] == ["submitting"] * 2
        told = next(submit for submit in in_hand if submit.body["prompt"] == "0")
        assert vendor.call_back(told, success_a("up")).status_code == 200
        assert second.client.task(tasks[0])["status"] == "succeeded"
        assert second.client.wait_for(tasks[1])["error"]["code"] == "submission_unknown"
        assert sorted(submit.body["prompt"] for submit in vendor.submits) == ["0", "1", "2", "3"]


def test_a_restart_in_the_middle_of_processing_loses_nothing(vendor: Vendor, tmp_path: Path) -> None:
    settings = {**environment(vendor), "POLL_AFTER_SECONDS": "1", "TASK_TIMEOUT_SECONDS": "60"}
    with GatewayProcess(tmp_path, settings) as first:
        tasks = [first.client.submit()["id"] for _ in range(6)]
        for task in tasks:
            first.client.wait_for(task, "processing")
        assert first.stop() == 0
    vendor.on_poll = lambda asked: record(asked, 1, **SUCCESS)
    with GatewayProcess(tmp_path, settings) as second:
        for task in tasks:
            assert second.client.wait_for(task)["status"] == "succeeded"
    assert len(vendor.submits) == 6
