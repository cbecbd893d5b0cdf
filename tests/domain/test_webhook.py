"""Webhook signatures, verified by the specification's library and manually."""

import base64
import hashlib
import hmac
import json
import time

import pytest
from msgspec.structs import replace
from standardwebhooks import Webhook, WebhookVerificationError

from app.domain.delivery import plan
from app.domain.event import event_of
from app.domain.image import new_images
from app.domain.task import Task, TaskState
from app.domain.webhook import ROTATION_OVERLAP_MS, headers, new_secret
from app.shapes.base import encode
from app.shapes.event import webhook_message
from app.shapes.task import task_shape
from tests.support.tasks import NOW, STATES, make_task

BASE = "https://images.example"
PROMPT = 'a läke 湖 \N{SUNRISE} \u2028 "quoted" \\ \x07'


def delivered(task: Task) -> bytes:
    delivery = plan(event_of(task))
    assert delivery is not None
    later = replace(task, status=STATES["canceled"].status, updated_at=NOW + 1, attempts=7)
    images = new_images(task.id, ("https://x.example/1.png",), is_kept=True, now=NOW)
    return encode(webhook_message(delivery, later, images, BASE))


def with_webhook(name: str) -> Task:
    return replace(STATES[name], webhook_url="https://receiver.example/", input={"prompt": PROMPT, "image_urls": []})


def test_the_message_shows_the_task_as_it_was_at_the_event() -> None:
    for name in ("submission unknown", "succeeded", "refused", "canceled"):
        task = with_webhook(name)
        body = json.loads(delivered(task))
        assert set(body) == {"type", "timestamp", "data"}
        assert body["type"] == f"task.{task.status.value}"
        assert body["timestamp"] == body["data"]["updated_at"] == "1970-01-01T00:16:40.000Z"
        images = body["data"].pop("images")
        expected = json.loads(encode(task_shape(TaskState(task, [], None), BASE)))
        assert body["data"] == {name: value for name, value in expected.items() if name != "images"}
        assert [image["source_url"] for image in images] == (["https://x.example/1.png"] if name == "succeeded" else [])


def test_the_specifications_library_verifies_our_signature() -> None:
    body = delivered(with_webhook("succeeded"))
    delivery = plan(event_of(with_webhook("succeeded")))
    assert delivery is not None
    secret = new_secret("p", NOW).secret
    signed = headers(delivery, body, [secret], time.time_ns() // 1_000_000)
    assert Webhook(secret).verify(body, signed) == json.loads(body)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.replace(b"succeeded", b"failed"), signed)
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret("p", NOW).secret).verify(body, signed)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body, {**signed, "webhook-id": "whd_other"})


def test_the_signature_is_what_the_specification_says() -> None:
    body = delivered(with_webhook("refused"))
    delivery = plan(event_of(with_webhook("refused")))
    assert delivery is not None
    secret = new_secret("p", NOW).secret
    signed = headers(delivery, body, [secret], 1_700_000_000_999)
    assert signed["webhook-id"] == delivery.id
    assert signed["webhook-timestamp"] == "1700000000"
    prefix, encoded = secret.split("_", 1)
    key = base64.b64decode(encoded, validate=True)
    assert (prefix, len(key)) == ("whsec", 32)
    content = b".".join([delivery.id.encode(), b"1700000000", body])
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    assert signed["webhook-signature"] == f"v1,{expected}"


def test_after_a_rotation_both_secrets_sign_for_a_day() -> None:
    first = new_secret("p", NOW)
    second = first.rotated(NOW)
    assert first.signing(NOW) == [first.secret]
    assert second.signing(NOW + ROTATION_OVERLAP_MS - 1) == [second.secret, first.secret]
    assert second.signing(NOW + ROTATION_OVERLAP_MS) == [second.secret]
    third = second.rotated(NOW + 1)
    assert third.signing(NOW + 2) == [third.secret, second.secret]
    assert len({first.secret, second.secret, third.secret}) == 3


def test_both_signatures_verify() -> None:
    task = with_webhook("canceled")
    delivery = plan(event_of(task))
    assert delivery is not None
    body = delivered(task)
    both = new_secret("p", NOW).rotated(NOW)
    assert both.previous is not None
    now = time.time_ns() // 1_000_000
    signed = headers(delivery, body, both.signing(NOW + 1), now)
    assert len(signed["webhook-signature"].split(" ")) == 2
    for secret in (both.secret, both.previous):
        Webhook(secret).verify(body, signed)


def test_a_task_without_a_webhook_has_no_delivery() -> None:
    assert plan(event_of(make_task())) is None
