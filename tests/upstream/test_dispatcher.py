"""Sending tasks: retries, rate limits, and no duplicates."""

import asyncio
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.access.authenticator import create_key
from app.clock import SystemClock
from app.db.engine import Database
from app.db.event_store import of_task
from app.settings import database_url
from tests.support.databases.postgres import PostgresServer
from tests.support.fixtures import Start
from tests.support.servers.gateway import LiveGateway
from tests.support.servers.vendor import Reply, Submit, Vendor, accepted, envelope, success_a
from tests.support.waiting import until


def events_of(gateway: LiveGateway, task_id: str) -> list[str]:
    async def read() -> list[str]:
        database = Database(database_url(gateway.settings))
        try:
            return await database.read(
                lambda connection: [event["type"].removeprefix("task.") for event in of_task(connection, task_id)]
            )
        finally:
            await database.aclose()

    return asyncio.run(read())


def error_of(task: dict[str, Any]) -> tuple[str, str]:
    return task["error"]["code"], task["error"]["message"]


def upstream_state(gateway: LiveGateway) -> tuple[str, str, str | None]:
    body = gateway.client.get("/readyz").json()
    return body["status"], body["upstream"]["state"], body["upstream"].get("reason")


def test_temporary_rejections_are_retried(gateway: LiveGateway, vendor: Vendor) -> None:
    vendor.script(*[envelope(500, "busy")] * 2)
    task = gateway.client.submit()
    assert gateway.client.wait_for(task["id"], "processing")["attempts"] == 3
    assert events_of(gateway, task["id"]) == ["queued", "submitting", "queued", "submitting", "queued", "submitting", "processing"]  # fmt: skip
    assert len(vendor.submits) == 3
    first, second, third = (submit.at for submit in vendor.submits)
    assert 0.4 < second - first < 2
    assert 0.4 < third - second < 3.5


@pytest.mark.parametrize("refusal", [envelope(500, "overloaded"), envelope(503, "overloaded", status=503)])
def test_a_task_that_is_always_refused_while_others_are_accepted_fails(
    start: Start, vendor: Vendor, refusal: Reply
) -> None:
    gateway = start(submit_retries=2, unwell_pauses=(50, 100))
    vendor.on_submit = lambda submit: refusal if submit.body["prompt"] == "bad" else accepted()
    bad = gateway.client.submit(prompt="bad")["id"]
    vendor.wait_for_submits(1)
    gateway.client.wait_for(gateway.client.submit(prompt="good")["id"], "processing")
    task = gateway.client.wait_for(bad)
    # A probe of a paused upstream may have been an attempt that doesn't count.
    assert (task["status"], task["attempts"] in {2, 3}) == ("failed", True)
    assert error_of(task) == ("upstream_error", "overloaded")
    assert events_of(gateway, bad)[-3:] == ["queued", "submitting", "failed"]


def test_a_rate_limit_pauses_every_task_as_long_as_the_vendor_requests(gateway: LiveGateway, vendor: Vendor) -> None:
    answers: list[float] = []
    all_there, gate = threading.Event(), threading.Event()

    def refuse_every_second(submit: Submit) -> Reply:
        number = vendor.submits.index(submit)
        if number >= 4:
            return accepted()
        all_there.wait(10)
        if number % 2:
            answers.append(time.monotonic())
            return envelope(429, "slow", status=429, Retry_After="2")
        # These return after the rejected ones and must not end the pause.
        gate.wait(10)
        return accepted()

    vendor.on_submit = refuse_every_second
    tasks = [gateway.client.submit()["id"] for _ in range(4)]
    vendor.wait_for_submits(4)
    all_there.set()
    until(lambda: sum(gateway.client.task(task)["status"] == "queued" for task in tasks) == 2)
    gate.set()
    tasks += [gateway.client.submit()["id"] for _ in range(4)]
    arrived = vendor.wait_for_submits(5)
    assert arrived[4].at - max(answers) >= 1.9
    for task in tasks:
        gateway.client.wait_for(task, "processing")


@pytest.mark.parametrize(("code", "reason"), [(401, "upstream_unauthorized"), (402, "insufficient_credits")])
def test_a_rejected_account_holds_the_queue_and_a_success_releases_it(
    start: Start, vendor: Vendor, code: int, reason: str
) -> None:
    gateway = start(hold_retry_seconds=1.0, upstream_concurrency=4)
    vendor.on_submit = lambda _: envelope(code, "pay first")
    first = gateway.client.submit()["id"]
    until(lambda: upstream_state(gateway) == ("degraded", "held", reason))
    assert gateway.client.get("/readyz").status_code == 200
    tasks = [first] + [gateway.client.submit()["id"] for _ in range(20)]
    arrived = vendor.wait_for_submits(3)
    pauses = [later.at - earlier.at for earlier, later in pairwise(arrived)]
    assert min(pauses) >= 0.9, pauses
    assert {gateway.client.task(task)["status"] for task in tasks} <= {"queued", "submitting"}
    vendor.on_submit = lambda _: accepted()
    probe = vendor.wait_for_submits(4)[3].at
    rest = vendor.wait_for_submits(3 + len(tasks))
    assert rest[-1].at - probe < 3
    until(lambda: upstream_state(gateway) == ("ready", "ok", None))


@pytest.mark.slow
def test_a_task_held_beyond_the_queue_timeout_fails_with_the_reason(start: Start, vendor: Vendor) -> None:
    gateway = start(hold_retry_seconds=60, queue_timeout_seconds=4)
    vendor.on_submit = lambda _: envelope(402, "pay first")
    tasks = [gateway.client.submit()["id"] for _ in range(3)]
    for task in tasks:
        assert error_of(gateway.client.wait_for(task)) == ("insufficient_credits", "pay first")
    late = gateway.client.submit()["id"]
    assert error_of(gateway.client.wait_for(late)) == ("insufficient_credits", "pay first")
    assert gateway.client.task(late)["attempts"] == 0


UNKNOWN = {
    "hang up": Reply(hang_up=True),
    "timeout": Reply(delay=1.5),
    "bad gateway": Reply(b"<html>", status=502),
    "unreadable": Reply(b"<html>"),
}


@pytest.mark.parametrize("how", UNKNOWN)
def test_an_unknown_outcome_is_never_sent_again(start: Start, vendor: Vendor, how: str) -> None:
    gateway = start(task_timeout_seconds=2.5, upstream_timeout_seconds=0.7)
    vendor.on_submit = lambda _: UNKNOWN[how]
    lost, told = gateway.client.submit()["id"], gateway.client.submit()["id"]
    submit = vendor.wait_for_submits(2)[1]
    assert vendor.call_back(submit, success_a("up")).json() == {"status": "received"}
    statuses = {gateway.client.task(task)["status"] for task in (lost, told)}
    assert statuses == {"submitting", "succeeded"}
    done = [gateway.client.wait_for(task) for task in (lost, told)]
    failed = next(task for task in done if task["status"] == "failed")
    assert failed["error"]["code"] == "submission_unknown"
    assert failed["attempts"] == 1
    assert len(vendor.submits) == 2


def test_a_callback_after_an_unknown_outcome_was_given_up_still_counts(start: Start, vendor: Vendor) -> None:
    gateway = start(task_timeout_seconds=0.5)
    vendor.on_submit = lambda _: Reply(hang_up=True)
    task = gateway.client.wait_for(gateway.client.submit()["id"])
    assert task["error"]["code"] == "submission_unknown"
    assert vendor.call_back(vendor.submits[0], success_a("up")).json() == {"status": "received"}
    assert gateway.client.task(task["id"])["status"] == "succeeded"
    assert gateway.client.task(task["id"])["error"] is None
    assert events_of(gateway, task["id"]) == ["queued", "submitting", "failed", "succeeded"]


@pytest.mark.parametrize("reply", [envelope(400, "bad prompt"), envelope(422, "bad prompt", status=422)])
def test_a_rejected_request_ends_the_task_at_once(gateway: LiveGateway, vendor: Vendor, reply: Reply) -> None:
    vendor.script(reply)
    task = gateway.client.wait_for(gateway.client.submit()["id"])
    assert error_of(task) == ("invalid_request", "bad prompt")
    assert len(vendor.submits) == 1


def test_the_rate_limit_holds_in_any_window_across_replicas(
    start: Start, vendor: Vendor, postgres: PostgresServer, tmp_path: Path
) -> None:
    count, window = 5, 1.0
    url = postgres.create_database()
    vendor.on_submit = lambda submit: Reply(accepted().body, delay=hash(submit.body["callBackUrl"]) % 7 / 10)
    settings = {"database_url": url, "upstream_rate_limit": f"{count}/{window}"}
    replicas = [start(data_dir=tmp_path / name, **settings) for name in "ab"]
    for number in range(18):
        replicas[number % 2].client.submit()
    arrivals = sorted(submit.at for submit in vendor.wait_for_submits(18, 40))
    spans = [later - earlier for earlier, later in zip(arrivals, arrivals[count:], strict=False)]
    assert min(spans) >= window
    assert arrivals[count - 1] - arrivals[0] < window, "the first are sent at once"


def test_two_projects_take_turns_and_each_is_served_oldest_first(start: Start, vendor: Vendor) -> None:
    gateway = start(upstream_concurrency=1, auth="keys")
    clients = []

    async def make(project: str) -> str:
        database = Database(database_url(gateway.settings))
        try:
            return (await create_key(database, SystemClock(), project, project))[1]
        finally:
            await database.aclose()

    for project in ("busy", "quiet"):
        headers = {"Authorization": f"Bearer {asyncio.run(make(project))}"}
        clients.append(httpx.Client(base_url=gateway.settings.local_url, headers=headers))
    gate = threading.Event()
    vendor.on_submit = lambda _: Reply(accepted().body, gate=gate)
    plan = [(0, f"busy {n}") for n in range(20)] + [(1, f"quiet {n}") for n in range(5)]
    for who, prompt in plan:
        assert clients[who].post("/v1/tasks", json={"prompt": prompt}).status_code == 202
    gate.set()
    prompts = [submit.body["prompt"] for submit in vendor.wait_for_submits(25)]
    for name, total in (("busy", 20), ("quiet", 5)):
        assert [p for p in prompts if p.startswith(name)] == [f"{name} {n}" for n in range(total)]
    # The first was sent before the others arrived.
    assert [p.split()[0] for p in prompts[1:11]] in (["quiet", "busy"] * 5, ["busy", "quiet"] * 5)
    for client in clients:
        client.close()


def test_concurrent_submits_are_limited_and_a_burst_waits_in_the_queue(start: Start, vendor: Vendor) -> None:
    gateway = start(upstream_concurrency=3)
    gate, lock = threading.Event(), threading.Lock()
    flying: list[int] = [0, 0]

    def answer(_: Submit) -> Reply:
        with lock:
            flying[0] += 1
            flying[1] = max(flying)
        gate.wait(20)
        with lock:
            flying[0] -= 1
        return accepted()

    vendor.on_submit = answer
    tasks = [gateway.client.submit()["id"] for _ in range(30)]
    vendor.wait_for_submits(3)
    positions = [gateway.client.task(task)["queue_position"] for task in tasks]
    assert positions == [None] * 3 + list(range(1, 28))
    gate.set()
    vendor.wait_for_submits(30)
    assert flying[1] == 3
    for task in tasks:
        assert gateway.client.wait_for(task, "processing")["queue_position"] is None
