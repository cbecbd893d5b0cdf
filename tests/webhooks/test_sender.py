"""Webhooks as receivers see them: contents, retries and redeliveries."""

import threading
from itertools import pairwise

from standardwebhooks import Webhook

from tests.support.clients.webhooks import HOOKED, deliveries, refused, settled
from tests.support.fixtures import Start
from tests.support.servers.gateway import LiveGateway
from tests.support.servers.vendor import Reply, Vendor, accepted, envelope, success_a
from tests.support.servers.webhook_receiver import Receiver, ReceiverReply
from tests.support.waiting import until


def test_a_success_is_sent_with_the_task_and_its_images(
    hooked: LiveGateway, vendor: Vendor, receiver: Receiver
) -> None:
    vendor.on_submit = lambda _: accepted("up")
    task = hooked.client.submit(webhook_url=receiver.url, metadata={"order": "42"})
    vendor.call_back(vendor.wait_for_submits(1)[0], success_a("up"))
    (arrived,) = receiver.wait_for(1)
    assert arrived.json["type"] == "task.succeeded"
    assert arrived.json["data"] == hooked.client.task(task["id"])
    secret = hooked.client.get("/v1/webhook-secret").json()["secret"]
    Webhook(secret).verify(arrived.body, arrived.headers)
    done = settled(hooked, task["id"], "delivered")
    (attempt,) = done.pop("attempts")
    assert (attempt["status"], attempt["error"], attempt["response"]) == (200, None, "")
    assert attempt["latency_ms"] >= 0
    assert done == {
        "id": arrived.headers["webhook-id"],
        "task_id": task["id"],
        "event": "task.succeeded",
        "url": receiver.url,
        "state": "delivered",
        "next_attempt_at": None,
    }


def test_only_failures_and_cancellations_are_sent_besides(start: Start, vendor: Vendor, receiver: Receiver) -> None:
    gateway = start(**HOOKED, upstream_concurrency=1)
    gate = threading.Event()
    vendor.on_submit = lambda _: Reply(envelope(400, "no").body, gate=gate)
    failed, canceled, silent = [gateway.client.submit(webhook_url=receiver.url)["id"] for _ in range(2)] + [
        gateway.client.submit()["id"]
    ]
    vendor.wait_for_submits(1)
    assert gateway.client.post(f"/v1/tasks/{canceled}/cancel").status_code == 200
    assert receiver.wait_for(1)[0].json["type"] == "task.canceled"
    gate.set()
    (sent,) = receiver.wait_for(1, failed)
    assert sent.json["type"] == "task.failed"
    assert sent.json["data"]["error"]["code"] == "invalid_request"
    gateway.client.wait_for(silent)
    again = gateway.client.post(f"/v1/tasks/{failed}/retry").json()
    assert again["webhook_url"] == receiver.url
    assert receiver.wait_for(1, again["id"])[0].json["data"]["retry_of"] == failed
    assert {one["event"] for one in deliveries(gateway)} == {"task.failed", "task.canceled"}
    assert deliveries(gateway, task_id=silent) == []


def test_a_result_after_a_guess_is_sent_as_well(start: Start, vendor: Vendor, receiver: Receiver) -> None:
    gateway = start(**HOOKED, task_timeout_seconds=0.3)
    vendor.on_submit = lambda _: Reply(hang_up=True)
    task = gateway.client.submit(webhook_url=receiver.url)["id"]
    (guess,) = receiver.wait_for(1)
    assert guess.json["data"]["error"]["code"] == "submission_unknown"
    vendor.call_back(vendor.submits[0], success_a("up"))
    verdict = receiver.wait_for(2)[1]
    assert (verdict.json["type"], verdict.task_id) == ("task.succeeded", task)
    assert verdict.headers["webhook-id"] != guess.headers["webhook-id"]
    assert verdict.json["timestamp"] > guess.json["timestamp"]
    until(lambda: [one["state"] for one in deliveries(gateway)] == ["delivered"] * 2)
    # A redelivery of the guess still has its original content.
    first = deliveries(gateway)[1]["id"]
    gateway.client.post(f"/v1/webhook-deliveries/{first}/redeliver")
    assert receiver.wait_for(3)[2].json == guess.json


def test_a_failed_webhook_is_retried_with_the_same_id(hooked: LiveGateway, vendor: Vendor, receiver: Receiver) -> None:
    vendor.on_submit = refused
    receiver.script(
        ReceiverReply(500, b"\x00 broken \xff"),
        ReceiverReply(302, headers={"Location": receiver.url}),
        ReceiverReply(hang_up=True),
    )
    task = hooked.client.submit(webhook_url=receiver.url)["id"]
    arrived = receiver.wait_for(4)
    done = settled(hooked, task, "delivered")
    assert [attempt["status"] for attempt in done["attempts"]] == [500, 302, None, 200]
    assert done["attempts"][0]["response"] == "\x00 broken \\xff"
    assert "redirect" in done["attempts"][1]["error"]
    assert "RemoteProtocolError" in done["attempts"][2]["error"]
    assert {one.headers["webhook-id"] for one in arrived} == {done["id"]}
    assert len({one.body for one in arrived}) == 1
    secret = hooked.client.get("/v1/webhook-secret").json()["secret"]
    for one in arrived:
        Webhook(secret).verify(one.body, one.headers)
    for earlier, later in pairwise(arrived):
        assert later.at - earlier.at >= 0.16


def test_a_delivery_fails_after_its_last_try_and_can_be_redelivered(
    hooked: LiveGateway, vendor: Vendor, receiver: Receiver
) -> None:
    vendor.on_submit = refused
    receiver.on_post = lambda _: ReceiverReply(500)
    task = hooked.client.submit(webhook_url=receiver.url)["id"]
    failed = settled(hooked, task, "failed")
    assert len(failed["attempts"]) == 4
    assert failed["next_attempt_at"] is None
    receiver.on_post = lambda _: ReceiverReply()
    response = hooked.client.post(f"/v1/webhook-deliveries/{failed['id']}/redeliver")
    assert response.status_code == 202
    assert (response.json()["id"], response.json()["state"]) == (failed["id"], "pending")
    assert response.json()["next_attempt_at"] is not None
    assert len(response.json()["attempts"]) == 4
    assert [a["status"] for a in settled(hooked, task, "delivered")["attempts"]] == [500] * 4 + [200]
    # Delivered webhooks can be redelivered, too.
    assert hooked.client.post(f"/v1/webhook-deliveries/{failed['id']}/redeliver").status_code == 202
    assert receiver.wait_for(6)[5].headers["webhook-id"] == failed["id"]


def test_410_gone_stops_at_once(hooked: LiveGateway, vendor: Vendor, receiver: Receiver) -> None:
    vendor.on_submit = refused
    receiver.on_post = lambda _: ReceiverReply(410)
    task = hooked.client.submit(webhook_url=receiver.url)["id"]
    assert [a["status"] for a in settled(hooked, task, "failed")["attempts"]] == [410]


def test_retry_after_is_honored(hooked: LiveGateway, vendor: Vendor, receiver: Receiver) -> None:
    vendor.on_submit = refused
    receiver.script(ReceiverReply(429, headers={"Retry-After": "1"}))
    hooked.client.submit(webhook_url=receiver.url)
    first, second = receiver.wait_for(2)
    assert second.at - first.at >= 0.95


def test_after_a_rotation_either_secret_verifies(hooked: LiveGateway, vendor: Vendor, receiver: Receiver) -> None:
    vendor.on_submit = refused
    old = hooked.client.get("/v1/webhook-secret").json()["secret"]
    new = hooked.client.post("/v1/webhook-secret/rotate").json()["secret"]
    hooked.client.submit(webhook_url=receiver.url)
    (arrived,) = receiver.wait_for(1)
    assert len(arrived.headers["webhook-signature"].split(" ")) == 2
    for secret in (old, new):
        Webhook(secret).verify(arrived.body, arrived.headers)
