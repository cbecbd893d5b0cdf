"""When deliveries are planned, retried, given up and restarted."""

import pytest
from msgspec.structs import replace

from app.domain.delivery import (
    LEASE_MS,
    Delivery,
    DeliveryResponse,
    DeliveryState,
    claim,
    plan,
    redeliver,
    release,
    settle,
)
from app.domain.event import event_of
from tests.support.tasks import NOW, STATES

SCHEDULE = [5_000, 300_000]
DAY = 24 * 3_600_000


def planned() -> Delivery:
    delivery = plan(event_of(replace(STATES["succeeded"], webhook_url="https://Receiver.example:8443/hook?a=1")))
    assert delivery is not None
    return delivery


def tried(delivery: Delivery, answer: DeliveryResponse, jitter: float = 0.5, now: int = NOW) -> Delivery:
    return settle(claim(delivery, "me", now), answer, by="me", now=now, schedule=SCHEDULE, jitter=jitter)


def test_only_the_end_of_a_task_with_a_webhook_is_delivered() -> None:
    ended = {"submission unknown", "timed out", "succeeded", "refused", "canceled"}
    for name, task in STATES.items():
        assert plan(event_of(task)) is None
        delivery = plan(event_of(replace(task, webhook_url="https://receiver.example/")))
        assert (delivery is not None) is (name in ended)


def test_a_planned_delivery_is_due_at_once() -> None:
    delivery = planned()
    assert (delivery.state, delivery.event, delivery.host) == ("pending", "task.succeeded", "receiver.example:8443")
    assert delivery.next_attempt_at == delivery.due_at == delivery.created_at
    assert delivery.id.startswith("whd_")


def test_a_host_of_any_length_fits() -> None:
    event = event_of(replace(STATES["succeeded"], webhook_url=f"https://{'a' * 3000}/"))
    delivery = plan(event)
    assert delivery is not None
    assert len(delivery.host) == 255


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_any_2xx_delivers(status: int) -> None:
    after = tried(planned(), DeliveryResponse(status))
    assert (after.state, after.attempts, after.due_at, after.next_attempt_at) == ("delivered", 1, None, None)


@pytest.mark.parametrize("status", [100, 199, 300, 301, 302, 307, 400, 401, 404, 429, 500, 503, None])
def test_other_responses_are_retried_on_schedule(status: int | None) -> None:
    first = tried(planned(), DeliveryResponse(status))
    assert (first.state, first.due_at, first.next_attempt_at, first.claimed_by) == ("pending", NOW + 5_000, NOW + 5_000, None)  # fmt: skip
    second = tried(first, DeliveryResponse(status))
    assert second.due_at == NOW + 300_000
    third = tried(second, DeliveryResponse(status))
    assert (third.state, third.attempts, third.due_at) == ("failed", 3, None)


def test_gone_stops_at_once() -> None:
    assert tried(planned(), DeliveryResponse(410)).state is DeliveryState.FAILED


@pytest.mark.parametrize(("jitter", "pause"), [(0.0, 4_000), (0.25, 4_500), (0.5, 5_000), (1.0, 6_000)])
def test_jitter_is_up_to_a_fifth_either_way(jitter: float, pause: int) -> None:
    assert tried(planned(), DeliveryResponse(500), jitter).due_at == NOW + pause


@pytest.mark.parametrize(
    ("asked", "pause"),
    [(None, 5_000), (0, 5_000), (1_000, 5_000), (60_000, 60_000), (DAY, DAY), (100 * DAY, DAY)],
)
def test_retry_after_can_only_lengthen_a_pause_and_by_a_day_at_most(asked: int | None, pause: int) -> None:
    assert tried(planned(), DeliveryResponse(503, retry_after=asked)).due_at == NOW + pause


def test_a_claim_is_a_lease() -> None:
    held = claim(planned(), "me", NOW)
    assert (held.claimed_by, held.due_at, held.next_attempt_at) == ("me", NOW + LEASE_MS, planned().next_attempt_at)
    assert release(held, "other", NOW) == held
    back = release(held, "me", NOW + 5)
    assert (back.claimed_by, back.due_at, back.tries) == (None, NOW + 5, 0)


def test_a_process_without_its_lease_can_only_report_success() -> None:
    held = claim(planned(), "other", NOW)
    late = settle(held, DeliveryResponse(500), by="me", now=NOW, schedule=SCHEDULE, jitter=0.5)
    assert late == replace(held, attempts=1)
    gone = settle(held, DeliveryResponse(410), by="me", now=NOW, schedule=SCHEDULE, jitter=0.5)
    assert gone.state is DeliveryState.PENDING
    arrived = settle(held, DeliveryResponse(200), by="me", now=NOW, schedule=SCHEDULE, jitter=0.5)
    assert arrived.state is DeliveryState.DELIVERED


@pytest.mark.parametrize("statuses", [[200], [410], [500], [500, 500, 500]])
def test_a_redelivery_restarts_under_the_same_id(statuses: list[int]) -> None:
    delivery = planned()
    for status in statuses:
        delivery = tried(delivery, DeliveryResponse(status))
    again = redeliver(delivery, NOW + 9)
    assert (again.id, again.state, again.tries) == (delivery.id, "pending", 0)
    assert again.due_at == again.next_attempt_at == NOW + 9
    assert again.attempts == len(statuses)
    assert tried(again, DeliveryResponse(500)).due_at == NOW + 5_000


def test_a_redelivery_does_not_send_twice_at_the_same_time() -> None:
    second = tried(planned(), DeliveryResponse(500))
    held = claim(second, "me", NOW)
    again = redeliver(held, NOW + 9)
    assert again == replace(held, tries=0)
    failed = settle(again, DeliveryResponse(500), by="me", now=NOW + 10, schedule=SCHEDULE, jitter=0.5)
    assert failed.due_at == NOW + 10 + 5_000
