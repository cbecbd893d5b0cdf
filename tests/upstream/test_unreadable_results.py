"""How unreadable successes end, and what replaces them."""

import uuid
from typing import Any

import pytest

from tests.support.clients.callbacks import RECEIVED, URL, answer, failure_a, shape_b, sources
from tests.support.clients.webhooks import HOOKED
from tests.support.fixtures import Start
from tests.support.servers.gateway import FREQUENT
from tests.support.servers.gateway_process import GatewayProcess
from tests.support.servers.vendor import Reply, Vendor, accepted, record, success_a
from tests.support.servers.webhook_receiver import Receiver
from tests.support.waiting import until

NO_URL = "The upstream reported a success without http(s) image URL."


@pytest.mark.parametrize("late", ["success", "failure"])
def test_a_later_result_replaces_an_unreadable_one_and_sends_a_webhook(
    start: Start, vendor: Vendor, receiver: Receiver, database_url: str, late: str
) -> None:
    gateway = start(database_url=database_url, **HOOKED, task_timeout_seconds=1, loop_times=FREQUENT)
    task = gateway.client.submit(webhook_url=receiver.url)["id"]
    (submit,) = vendor.wait_for_submits(1)
    upstream_id = gateway.client.wait_for(task, "processing")["upstream_task_id"]
    assert answer(vendor.call_back(submit, success_a(upstream_id, ""))) == (422, "unreadable_callback")
    assert gateway.client.task(task)["error"] is None
    failed = gateway.client.wait_for(task, "failed")
    said = f"{NO_URL} It says: Image generated successfully."
    assert failed["error"] == {"code": "result_unreadable", "message": said, "upstream_code": None}
    assert receiver.wait_for(1)[0].json["data"]["error"]["code"] == "result_unreadable"
    body = success_a(upstream_id) if late == "success" else failure_a(upstream_id, 501)
    assert answer(vendor.call_back(submit, body)) == (200, RECEIVED)
    done = gateway.client.task(task)
    if late == "success":
        assert (done["status"], sources(done)) == ("succeeded", [URL])
    else:
        assert done["error"]["code"] == "generation_failed"
    assert [told.json["data"]["status"] for told in receiver.wait_for(2)] == ["failed", done["status"]]


def test_a_record_with_an_unreadable_success_is_not_a_timeout(start: Start, vendor: Vendor) -> None:
    gateway = start(task_timeout_seconds=1)
    vendor.on_poll = lambda asked: record(asked, 1, response={"resultImageUrl": "data:image/png;base64,AAAA"})
    failed = gateway.client.wait_for(gateway.client.submit()["id"], "failed")
    assert (failed["error"]["code"], failed["error"]["message"]) == ("result_unreadable", NO_URL)


def test_a_readable_record_wins_over_an_unreadable_callback(start: Start, vendor: Vendor) -> None:
    gateway = start()
    vendor.on_poll = lambda asked: record(asked, 1, response={"resultImageUrl": URL})
    task = gateway.client.submit()["id"]
    upstream_id = gateway.client.wait_for(task, "processing")["upstream_task_id"]
    assert vendor.call_back(vendor.submits[0], success_a(upstream_id, "")).status_code == 422
    done = gateway.client.wait_for(task)
    assert (done["status"], done["error"]) == ("succeeded", None)


@pytest.mark.parametrize("has_id", [True, False])
def test_without_a_reply_an_unreadable_callback_counts(start: Start, vendor: Vendor, *, has_id: bool) -> None:
    gateway = start(task_timeout_seconds=1)
    vendor.on_submit = lambda _: Reply(hang_up=True)
    task, upstream_id = gateway.client.submit()["id"], uuid.uuid4().hex
    (submit,) = vendor.wait_for_submits(1)
    body: dict[str, Any] = (
        success_a(upstream_id, "") if has_id else {"code": 200, "data": {"info": {"resultImageUrl": URL}}}
    )
    assert vendor.call_back(submit, body).status_code == 422
    failed = gateway.client.wait_for(task, "failed")
    assert failed["error"]["code"] == "result_unreadable"
    assert ("taskId" in failed["error"]["message"]) is not has_id


def test_a_callback_that_claims_nothing_leaves_a_timeout(start: Start, vendor: Vendor) -> None:
    gateway = start(task_timeout_seconds=1)
    task = gateway.client.submit()["id"]
    gateway.client.wait_for(task, "processing")
    assert vendor.call_back(vendor.submits[0], b"garbage").status_code == 422
    assert vendor.call_back(vendor.submits[0], success_a("0" * 32, "")).status_code == 422  # of another task
    assert gateway.client.wait_for(task, "failed")["error"]["code"] == "timeout"


def test_an_early_unreadable_callback_is_remembered_when_the_reply_arrives(start: Start, vendor: Vendor) -> None:
    gateway = start(task_timeout_seconds=1)
    upstream_id = uuid.uuid4().hex

    def call_back_first(submit: Any) -> Reply:
        assert vendor.call_back(submit, shape_b(upstream_id, 1)).status_code == 422
        return accepted(upstream_id)

    vendor.on_submit = call_back_first
    failed = gateway.client.wait_for(gateway.client.submit()["id"], "failed")
    assert (failed["error"]["code"], failed["upstream_task_id"]) == ("result_unreadable", upstream_id)


@pytest.mark.slow
def test_the_log_warns_of_results_that_cannot_be_read(tmp_path: Any, vendor: Vendor) -> None:
    settings = {
        "NANOBANANA_API_KEY": "upstream-key",
        "NANOBANANA_BASE_URL": vendor.url,
        "TASK_TIMEOUT_SECONDS": "1",
        "LOG_FORMAT": "json",
    }
    with GatewayProcess(tmp_path, settings) as gateway:
        task = gateway.client.submit()["id"]
        upstream_id = gateway.client.wait_for(task, "processing")["upstream_task_id"]
        vendor.call_back(vendor.submits[0], success_a(upstream_id, ""))
        gateway.client.wait_for(task, "failed")
        until(lambda: "task_timed_out" in gateway.log)
    warnings = [line for line in gateway.log.splitlines() if '"level":"warning"' in line.replace(" ", "")]
    assert any("callback_unreadable" in line and NO_URL in line for line in warnings)
    assert any("task_timed_out" in line and "result_unreadable" in line for line in warnings)
