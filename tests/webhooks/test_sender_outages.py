"""Webhooks arrive despite failing receivers and gateways."""

import threading
from pathlib import Path

from standardwebhooks import Webhook

from app.background import LoopTimes
from tests.support.clients.webhooks import HOOKED, deliveries, refused, settled
from tests.support.databases.postgres import PostgresServer
from tests.support.fixtures import Start
from tests.support.servers.gateway import LiveGateway
from tests.support.servers.vendor import Vendor
from tests.support.servers.webhook_receiver import ReceivedWebhook, Receiver, ReceiverReply
from tests.support.waiting import until


def test_a_receiver_that_is_down_for_a_while_gets_everything(
    start: Start, database_url: str, vendor: Vendor, receiver: Receiver
) -> None:
    gateway = start(
        database_url=database_url, allow_networks="127.0.0.0/8", webhook_retry_schedule=",".join(["0.3"] * 20)
    )
    vendor.on_submit = refused
    receiver.stop()
    tasks = [gateway.client.submit(webhook_url=receiver.url)["id"] for _ in range(30)]
    until(lambda: len(deliveries(gateway)) == 30 and any(len(one["attempts"]) > 1 for one in deliveries(gateway)))
    assert {one["state"] for one in deliveries(gateway)} == {"pending"}
    receiver.start()
    receiver.wait_for(30, seconds=30)
    until(lambda: {one["state"] for one in deliveries(gateway)} == {"delivered"})
    assert sorted(one.task_id for one in receiver.arrived) == sorted(tasks)


def test_a_dead_receiver_does_not_delay_others(hooked: LiveGateway, vendor: Vendor, receiver: Receiver) -> None:
    """One receiver never responds, and its backlog is the oldest."""
    gate, dead = threading.Event(), Receiver()
    dead.on_post = lambda _: ReceiverReply(gate=gate)
    vendor.on_submit = refused
    for _ in range(40):
        hooked.client.submit(webhook_url=dead.url)
    dead.wait_for(4)
    until(lambda: len(deliveries(hooked, state="pending")) == 40)
    alive = [hooked.client.submit(webhook_url=receiver.url)["id"] for _ in range(20)]
    for task in alive:
        receiver.wait_for(1, task)
    assert len(dead.arrived) == 4, "more than four at a time for one host"
    gate.set()
    until(lambda: {one["state"] for one in deliveries(hooked)} == {"delivered"})
    dead.stop()


def test_a_receiver_that_answers_quickly_gets_more_than_its_share(
    hooked: LiveGateway, vendor: Vendor, receiver: Receiver
) -> None:
    vendor.on_submit = refused
    first = hooked.client.submit(webhook_url=receiver.url)["id"]
    settled(hooked, first, "delivered")
    gate = threading.Event()
    receiver.on_post = lambda _: ReceiverReply(gate=gate)
    for _ in range(40):
        hooked.client.submit(webhook_url=receiver.url)
    receiver.wait_for(1 + 32)
    gate.set()
    until(lambda: {one["state"] for one in deliveries(hooked)} == {"delivered"})


def test_an_unresponsive_host_gets_one_webhook_at_a_time(start: Start, vendor: Vendor, receiver: Receiver) -> None:
    gateway = start(**{**HOOKED, "webhook_retry_schedule": "600"})
    vendor.on_submit = refused
    lock, flying, most = threading.Lock(), [0], [0]

    def hang_up(_: ReceivedWebhook) -> ReceiverReply:
        with lock:
            flying[0] += 1
            most[0] = max(most[0], flying[0])
        event = threading.Event()
        event.wait(0.02)
        with lock:
            flying[0] -= 1
        return ReceiverReply(hang_up=True)

    receiver.on_post = hang_up
    first = gateway.client.submit(webhook_url=receiver.url)["id"]
    until(lambda: any(one["attempts"] for one in deliveries(gateway, task_id=first)))
    for _ in range(20):
        gateway.client.submit(webhook_url=receiver.url)
    until(lambda: sum(len(one["attempts"]) for one in deliveries(gateway)) == 21)
    assert most[0] == 1


def test_private_addresses_are_not_called_unless_allowed(start: Start, vendor: Vendor, receiver: Receiver) -> None:
    """The task was created while the operator allowed the address."""
    before = start(allow_networks="127.0.0.0/8", webhook_retry_schedule="1")
    vendor.on_submit = refused
    receiver.on_post = lambda _: ReceiverReply(500)
    task = before.client.submit(webhook_url=receiver.url)["id"]
    receiver.wait_for(1)
    before.close()
    after = start(webhook_retry_schedule="1")
    failed = settled(after, task, "failed")
    assert "DestinationRefused" in failed["attempts"][-1]["error"]
    assert len(receiver.arrived) == 1


def test_a_stop_does_not_wait_for_a_receiver_and_the_next_start_delivers_at_once(
    start: Start, database_url: str, vendor: Vendor, receiver: Receiver
) -> None:
    gate = threading.Event()
    receiver.on_post = lambda _: ReceiverReply(gate=gate)
    vendor.on_submit = refused
    first = start(database_url=database_url, **HOOKED, loop_times=LoopTimes(webhook_stop_seconds=0.2))
    task = first.client.submit(webhook_url=receiver.url)["id"]
    receiver.wait_for(1)
    first.close()
    receiver.on_post = lambda _: ReceiverReply()
    second = start(database_url=database_url, **HOOKED)
    receiver.wait_for(2)
    assert settled(second, task, "delivered")["attempts"][0]["status"] == 200
    gate.set()


def test_replicas_share_the_work_and_send_each_once(
    start: Start, vendor: Vendor, receiver: Receiver, postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.create_database()
    replicas = [start(data_dir=tmp_path / name, database_url=url, **HOOKED) for name in "ab"]
    vendor.on_submit = refused
    tasks = [replicas[n % 2].client.submit(webhook_url=receiver.url)["id"] for n in range(60)]
    receiver.wait_for(60)
    until(lambda: {one["state"] for one in deliveries(replicas[0])} == {"delivered"})
    assert sorted(one.task_id for one in receiver.arrived) == sorted(tasks)
    secrets = {replica.client.get("/v1/webhook-secret").json()["secret"] for replica in replicas}
    assert len(secrets) == 1
    Webhook(secrets.pop()).verify(receiver.arrived[0].body, receiver.arrived[0].headers)
