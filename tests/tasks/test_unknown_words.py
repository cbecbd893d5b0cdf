"""Unknown words from a newer version are shown unchanged."""

import asyncio
import json
from functools import partial
from typing import Any

import pytest

from app.db.engine import Connection, Database
from tests.support.clients.event_reader import EventReader
from tests.support.servers.served import Served
from tests.support.servers.vendor import success_a


def execute(served: Served, *statements: str) -> None:
    async def run() -> None:
        database = Database(served.database_url)
        try:
            for statement in statements:
                await database.write(partial(Connection.exec_driver_sql, statement=statement))
        finally:
            await database.aclose()

    asyncio.run(run())


def ended(served: Served) -> str:
    task, submit = served.processing()
    assert served.call_back(submit, success_a(task["upstream_task_id"])).status_code == 200
    return str(task["id"])


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        ("status = 'reviewing'", {"status": "reviewing"}),
        ("model = 'nano-banana-9'", {"model": "nano-banana-9"}),
        ("type = 'image_to_video'", {"type": "image_to_video"}),
        (
            "status = 'failed', error_code = 'out_of_paint', error_message = 'No paint.'",
            {"status": "failed", "error": {"code": "out_of_paint", "message": "No paint.", "upstream_code": None}},
        ),
    ],
)
def test_a_task_with_an_unknown_word_is_shown_and_so_are_the_others(
    served: Served, column: str, shown: dict[str, Any]
) -> None:
    task_id, other = ended(served), ended(served)
    execute(served, f"UPDATE tasks SET {column} WHERE id = '{task_id}'")
    listed = {task["id"]: task for task in served.client.get("/v1/tasks").json()["data"]}
    assert {task_id, other} <= set(listed)
    for found in (listed[task_id], served.client.task(task_id)):
        assert {name: found[name] for name in shown} == shown
    assert served.client.get(f"/v1/tasks/{task_id}/callbacks").status_code == 200


def test_an_image_in_an_unknown_state_is_shown(served: Served) -> None:
    task_id = ended(served)
    execute(served, f"UPDATE images SET state = 'moving' WHERE task_id = '{task_id}'")
    (image,) = served.client.task(task_id)["images"]
    assert image["state"] == "moving"


def test_a_task_for_an_unknown_model_is_left_to_those_who_know_it(served: Served) -> None:
    template, newer = ended(served), f"task_{'0' * 32}"
    execute(
        served,
        f"CREATE TABLE copies AS SELECT * FROM tasks WHERE id = '{template}'",
        f"UPDATE copies SET id = '{newer}', model = 'nano-banana-9', status = 'queued', completed_at = NULL, "
        "deadline_at = 9000000000000, not_before = 0, upstream_task_id = NULL",
        "INSERT INTO tasks SELECT * FROM copies",
        "DROP TABLE copies",
    )
    task, _ = served.processing()
    assert served.client.task(task["id"])["status"] == "processing"
    assert served.client.task(newer)["status"] == "queued"
    execute(served, f"DELETE FROM tasks WHERE id = '{newer}'")


def test_streams_pass_on_unknown_events_and_skip_unreadable_ones(served: Served) -> None:
    task_id, other = ended(served), ended(served)
    snapshot = json.dumps({"status": "reviewing", "shape": "new"})
    execute(
        served,
        f"UPDATE events SET type = 'task.reviewing', snapshot = '{snapshot}' "
        f"WHERE task_id = '{task_id}' AND type = 'task.processing'",
        f"UPDATE events SET type = 'task.painting' WHERE task_id = '{task_id}' AND type = 'task.submitting'",
    )
    with served.follow(last_id=0) as stream:
        stream.wait(lambda reader: has_succeeded(reader, other))
        live = ended(served)
        stream.wait(lambda reader: has_succeeded(reader, live))
        of_task = [event.type for event in stream.events if event.data["id"] == task_id]
    assert "task.painting" in of_task
    assert "task.reviewing" not in of_task
    assert of_task[-1] == "task.succeeded"


def has_succeeded(reader: EventReader, task_id: str) -> bool:
    return any(event.type == "task.succeeded" and event.data["id"] == task_id for event in list(reader.events))


@pytest.mark.parametrize("query", ["status=reviewing", "model=nano-banana-9", "type=image_to_video"])
def test_clients_may_only_filter_by_known_words(served: Served, query: str) -> None:
    response = served.client.get(f"/v1/tasks?{query}")
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == query.partition("=")[0]
