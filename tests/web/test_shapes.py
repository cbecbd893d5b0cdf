"""Shapes as bytes, and schemas that describe them."""

import json
from dataclasses import fields
from typing import Any

import jsonschema_rs
import pytest
from msgspec.structs import replace
from pydantic import TypeAdapter

from app.domain import image as rules
from app.domain.callback import ReceivedCallback
from app.domain.delivery import Attempt, plan
from app.domain.event import StoredEvent, event_of
from app.domain.image import Image, Stored, new_images
from app.domain.models import OPTIONAL_PARAMETERS
from app.domain.task import TaskState
from app.errors import InvalidRequest, TaskNotFound
from app.shapes.base import encode
from app.shapes.event import broadcast_event, webhook_message
from app.shapes.problem import problem_shape
from app.shapes.task import TaskInput, callback_shape, task_shape
from app.webhooks.shapes import delivery_shape
from tests.support.schemas import closed
from tests.support.tasks import NOW, STATES

BASE = "https://gateway.example"
IMAGE = Image(id="img_1", task_id="task_1", position=0, source_url="https://x.example/1")


def wire(shape: Any) -> Any:
    """Encode a shape, check it against its schema, decode it."""
    sent = json.loads(encode(shape))
    jsonschema_rs.validate(closed(TypeAdapter(type(shape)).json_schema(mode="serialization")), sent)
    return sent


@pytest.mark.parametrize("name", STATES)
def test_a_task_is_as_documented_in_every_state(name: str) -> None:
    images = new_images("task_x", ("https://x.example/1",), is_kept=True, now=NOW)
    sent = wire(task_shape(TaskState(STATES[name], images, 3), BASE))
    assert sent["status"] == STATES[name].status.value
    assert (sent["error"] is None) == (sent["status"] != "failed")


def test_fields_of_a_task_keep_their_order() -> None:
    stored = rules.store(IMAGE, Stored("ab" * 32, "image/png", 9, 3, 2))
    task = replace(STATES["refused"], metadata={"order": "42"}, subject="user-7")
    sent = encode(task_shape(TaskState(task, [stored], None), BASE)).decode()
    error = {"code": task.error.code.value, "message": task.error.message, "upstream_code": task.error.upstream_code}  # type: ignore[union-attr]
    assert sent == json.dumps(
        {
            "id": task.id,
            "status": "failed",
            "model": "nano-banana",
            "type": "text_to_image",
            "input": {"prompt": "a lake", "image_urls": []},
            "images": [
                {
                    "id": "img_1",
                    "url": f"{BASE}/v1/images/img_1",
                    "source_url": "https://x.example/1",
                    "state": "stored",
                    "reason": None,
                    "content_type": "image/png",
                    "bytes": 9,
                    "width": 3,
                    "height": 2,
                }
            ],
            "error": error,
            "waiting": None,
            "upstream_task_id": task.upstream_task_id,
            "queue_position": None,
            "attempts": task.attempts,
            "retry_of": None,
            "subject": "user-7",
            "metadata": {"order": "42"},
            "webhook_url": None,
            "created_at": "1970-01-01T00:16:40.000Z",
            "submitted_at": None if task.submitted_at is None else "1970-01-01T00:16:40.000Z",
            "completed_at": None if task.completed_at is None else "1970-01-01T00:16:40.000Z",
            "updated_at": "1970-01-01T00:16:40.000Z",
        },
        separators=(",", ":"),
    )


def test_an_image_url_is_local_unless_the_image_is_unavailable() -> None:
    stored = rules.store(IMAGE, Stored("ab" * 32, "image/png", 9, 3, 2))
    states = [IMAGE, stored, rules.give_up(IMAGE, "gone")]
    shown = wire(task_shape(TaskState(STATES["succeeded"], states, None), BASE))["images"]
    ours = f"{BASE}/v1/images/img_1"
    assert [(image["state"], image["url"], image["reason"]) for image in shown] == [
        ("pending", ours, None),
        ("stored", ours, None),
        ("unavailable", "https://x.example/1", "gone"),
    ]


def test_the_documented_input_has_all_model_parameters() -> None:
    assert set(TaskInput.__annotations__) == {"prompt", "image_urls", *OPTIONAL_PARAMETERS}


def test_an_error_lists_fields_only_if_there_are_any() -> None:
    assert "errors" not in wire(problem_shape(TaskNotFound("gone")))
    sent = wire(problem_shape(InvalidRequest.field("prompt", "is required")))
    assert list(sent) == ["type", "title", "status", "detail", "code", "request_id", "errors"]
    assert sent["errors"] == [{"field": "prompt", "message": "is required"}]


def test_invalid_utf8_is_escaped() -> None:
    assert (
        wire(callback_shape(ReceivedCallback("task_x", NOW, 422, "unreadable_callback", b"\xffa")))["body"] == "\\xffa"
    )
    delivery = plan(event_of(replace(STATES["succeeded"], webhook_url="https://r.example/")))
    assert delivery is not None
    attempts = [
        Attempt(delivery_id=delivery.id, at=NOW, status=200, error=None, latency_ms=3, response=b"\xff"),
        Attempt(delivery_id=delivery.id, at=NOW, status=None, error="refused", latency_ms=3, response=None),
    ]
    sent = wire(delivery_shape(delivery, attempts))
    assert [attempt["response"] for attempt in sent["attempts"]] == ["\\xff", None]
    assert sent["next_attempt_at"] == "1970-01-01T00:16:40.000Z"
    assert list(sent) == ["id", "task_id", "event", "url", "state", "attempts", "next_attempt_at"]


def test_events_and_webhooks_contain_the_task_shape() -> None:
    task = replace(STATES["succeeded"], webhook_url="https://r.example/", input={"prompt": "a\nläke", "image_urls": []})
    event = event_of(task)
    stored = StoredEvent(**{one: getattr(event, one) for one in event.__struct_fields__}, id=7)
    expected = encode(task_shape(TaskState(task, [IMAGE], None), BASE))
    frame = broadcast_event(stored, task, [IMAGE], BASE).frame
    assert frame == b"id: 7\nevent: task.succeeded\ndata: %b\n\n" % expected
    delivery = plan(event)
    assert delivery is not None
    message = webhook_message(delivery, task, [IMAGE], BASE)
    assert [one.name for one in fields(message)] == ["type", "timestamp", "data"]
    assert wire(message)["data"] == json.loads(expected)


def test_snapshots_of_earlier_versions_are_shown() -> None:
    """The snapshot has the keys of the first version."""
    snapshot = {
        "status": "failed",
        "attempts": 2,
        "upstream_task_id": "up_1",
        "error": ["timeout", "No result in time.", None],
        "submitted_at": 1,
        "completed_at": 2,
        "updated_at": 2,
    }
    task = STATES["succeeded"]
    event = StoredEvent(task.id, task.project, "task.failed", snapshot, 2, id=1)
    shown = broadcast_event(event, task, [IMAGE], BASE)
    data = json.loads(shown.frame.split(b"data: ")[1])
    assert (data["status"], data["images"], data["attempts"], shown.is_conclusion) == ("failed", [], 2, True)
    assert data["error"] == {"code": "timeout", "message": "No result in time.", "upstream_code": None}
