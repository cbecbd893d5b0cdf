"""Upstream outages cost only a few tasks, and work continues."""

import time
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.support.fixtures import Start
from tests.support.servers.gateway import LiveGateway
from tests.support.servers.vendor import Reply, Vendor, accepted, envelope, record
from tests.support.waiting import until

pytestmark = pytest.mark.slow
TASKS = 60
# Four in flight at first, and the probes 1, 2, 4, 8 and 16. These short pauses lead to many probes.
HANDFUL = 9
PAGE = b"<html>error</html>"
SILENT = {
    "502 page": Reply(PAGE, status=502),
    "500 page": Reply(PAGE, status=500),
    "521 page": Reply(PAGE, status=521),
    "time-out": Reply(delay=1.5, hang_up=True),
}
REFUSING = {
    "455": envelope(455, "maintenance"),
    "503 page": Reply(PAGE, status=503),
    "code 500": envelope(500, "internal error"),
    "429": envelope(429, "slow down", status=429),
    "a firewall's 403 page": Reply(PAGE, status=403),
}
QUICK = {"unwell_pauses": (100, 400), "upstream_timeout_seconds": 1.0, "hold_retry_seconds": 0.5}
# Where every task must be accepted, a reply that is late on a busy machine must not be given up.
PATIENT = {**QUICK, "upstream_timeout_seconds": 10}


def upstream_of(gateway: LiveGateway) -> dict[str, Any]:
    body = gateway.client.get("/readyz").json()
    assert body["status"] == ("ready" if body["upstream"]["state"] == "ok" else "degraded")
    upstream: dict[str, Any] = body["upstream"]
    return upstream


def tasks_of(gateway: LiveGateway, status: str) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = gateway.client.get(f"/v1/tasks?limit=200&status={status}").json()["data"]
    return tasks


def is_over(gateway: LiveGateway) -> bool:
    is_sent = not tasks_of(gateway, "queued") and len(tasks_of(gateway, "processing")) >= TASKS - HANDFUL
    # The last ones may still be in flight.
    return is_sent and all(task["waiting"] for task in tasks_of(gateway, "submitting"))


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize("kind", SILENT)
def test_a_silent_upstream_costs_one_task_per_probe(start: Start, vendor: Vendor, kind: str) -> None:
    gateway, reply = start(**QUICK), SILENT[kind]
    vendor.on_submit, vendor.on_credit = lambda _: reply, lambda: reply
    for _ in range(TASKS):
        gateway.client.submit()
    until(lambda: upstream_of(gateway)["state"] == "paused", what="the pause")
    assert upstream_of(gateway)["reason"] == "upstream_unavailable"
    until(lambda: any(task["attempts"] for task in tasks_of(gateway, "queued")), what="a probe that was only a check")
    (waiting,) = {str(task["waiting"]["reason"]) for task in tasks_of(gateway, "queued")}
    assert waiting == "upstream_unavailable"
    vendor.on_submit, vendor.on_credit = lambda _: accepted(), lambda: Reply({"code": 200, "data": 1})
    until(lambda: is_over(gateway), what="the end of the queue")
    unknown = tasks_of(gateway, "submitting")
    assert 3 <= len(unknown) <= HANDFUL
    assert {task["waiting"]["reason"] for task in unknown} == {"outcome_unknown"}
    assert tasks_of(gateway, "failed") == []
    assert upstream_of(gateway) == {"mode": "live", "state": "ok", "reason": None, "until": None}


@pytest.mark.parametrize("kind", REFUSING)
def test_a_refusing_upstream_costs_no_task(start: Start, vendor: Vendor, kind: str) -> None:
    gateway = start(**PATIENT, submit_retries=2)
    vendor.on_submit = lambda _: REFUSING[kind]
    for _ in range(TASKS):
        gateway.client.submit()
    until(lambda: upstream_of(gateway)["state"] == "paused", what="the pause")
    sent = len(vendor.submits)
    submits = vendor.wait_for_submits(sent + 4)
    assert all(later.at - earlier.at > 0.09 for earlier, later in pairwise(submits[sent:])), "one probe at a time"
    vendor.on_submit = lambda _: accepted()
    until(lambda: len(tasks_of(gateway, "processing")) == TASKS, what="the end of the queue")


def test_an_unreachable_upstream_costs_no_task(start: Start, vendor: Vendor) -> None:
    gateway = start(**PATIENT, submit_retries=2)
    vendor.close()
    for _ in range(TASKS):
        gateway.client.submit()
    until(lambda: sum(task["attempts"] for task in tasks_of(gateway, "queued")) >= 4, what="some probes")
    again = Vendor(vendor.port)
    try:
        until(lambda: len(tasks_of(gateway, "processing")) == TASKS, what="the end of the queue")
    finally:
        again.close()


def test_a_held_account_whose_upstream_is_silent_is_probed_no_faster(start: Start, vendor: Vendor) -> None:
    gateway = start(**QUICK)
    vendor.on_submit = lambda _: envelope(402, "pay first")
    for _ in range(20):
        gateway.client.submit()
    until(lambda: upstream_of(gateway)["state"] == "held", what="the hold")
    vendor.on_submit, vendor.on_credit = lambda _: Reply(hang_up=True), lambda: Reply(hang_up=True)
    sent, began = len(vendor.submits), time.monotonic()
    until(lambda: len(tasks_of(gateway, "submitting")) >= 3, what="three probes in vain")
    pauses = [later.at - earlier.at for earlier, later in pairwise(vendor.submits[sent:])]
    assert min(pauses) >= 0.45
    assert len(vendor.submits) - sent <= 1 + (time.monotonic() - began) / 0.5
    assert upstream_of(gateway)["reason"] == "insufficient_credits"


def test_a_retry_after_of_an_hour_is_respected_for_minutes(start: Start, vendor: Vendor) -> None:
    gateway = start()
    vendor.on_submit = lambda _: envelope(429, "slow", status=429, Retry_After="3600")
    task = gateway.client.submit()["id"]
    state = until(lambda: (found := upstream_of(gateway))["state"] == "paused" and found, what="the pause")
    until_then = moment(state["until"]) - datetime.now(UTC)
    assert timedelta(minutes=4) < until_then < timedelta(minutes=5, seconds=1)
    waiting = until(lambda: gateway.client.task(task)["waiting"], what="the reason to wait")
    assert waiting == {"reason": "upstream_unavailable", "until": state["until"]}


def test_a_task_that_waits_too_long_fails_with_what_blocked_it(start: Start, vendor: Vendor) -> None:
    gateway = start(queue_timeout_seconds=1)
    vendor.on_submit = lambda _: envelope(455, "maintenance until noon")
    for task in [gateway.client.submit()["id"] for _ in range(3)]:
        error = gateway.client.wait_for(task)["error"]
        assert (error["code"], error["message"]) == ("upstream_error", "maintenance until noon")


def test_tasks_that_are_always_refused_do_not_delay_others(start: Start, vendor: Vendor) -> None:
    gateway = start(unwell_pauses=(50, 100))
    vendor.on_submit = lambda s: envelope(455, "not this") if s.body["prompt"] == "bad" else accepted()
    for _ in range(4):
        gateway.client.submit(prompt="bad")
    good = gateway.client.submit(prompt="good")["id"]
    gateway.client.wait_for(good, "processing")


def test_the_rate_limit_is_given_as_the_reason_to_wait(start: Start, vendor: Vendor) -> None:
    gateway = start(upstream_rate_limit="1/60")
    gateway.client.submit()
    vendor.wait_for_submits(1)
    late = gateway.client.submit()["id"]
    until(lambda: (wait := gateway.client.task(late)["waiting"]) and wait["reason"] == "rate_limit")
    assert moment(gateway.client.task(late)["waiting"]["until"]) > datetime.now(UTC) + timedelta(seconds=30)


def test_hanging_polls_do_not_keep_tasks_from_ending(start: Start, vendor: Vendor) -> None:
    gateway = start(poll_after_seconds=0.2, task_timeout_seconds=1, upstream_timeout_seconds=1.5)
    vendor.on_poll = lambda _: Reply(delay=4, hang_up=True)
    tasks = [gateway.client.submit()["id"] for _ in range(128)]
    for task in tasks:
        gateway.client.wait_for(task, "processing")
    began = time.monotonic()
    for task in tasks:
        assert gateway.client.wait_for(task)["error"]["code"] == "timeout"
    # 16 at a time would take 12 s.
    assert time.monotonic() - began < 9


@pytest.mark.parametrize(
    ("reply", "polls"),
    [
        (Reply(PAGE, status=502), 8),
        (Reply(delay=0.4, hang_up=True), 8),
        (envelope(429, "slow", status=429, Retry_After="60"), 4),
    ],
)
def test_an_upstream_that_answers_no_polls_gets_few(start: Start, vendor: Vendor, reply: Reply, polls: int) -> None:
    gateway = start(poll_after_seconds=0.1, unwell_pauses=(200, 60_000), upstream_timeout_seconds=0.3)
    vendor.on_poll = lambda _: reply
    tasks = [gateway.client.submit()["id"] for _ in range(40)]
    vendor.wait_for_polls(1)
    began = time.monotonic()
    until(lambda: time.monotonic() - began > 1.5, what="a second and a half")
    assert len(vendor.polls) <= polls
    if polls > 4:
        vendor.on_poll = lambda asked: record(asked, 1, response={"resultImageUrl": "https://tempfile.example/a.png"})
        for task in tasks:
            assert gateway.client.wait_for(task)["status"] == "succeeded"
