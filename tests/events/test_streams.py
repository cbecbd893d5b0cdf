"""Event streams: content, order and resumption."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.servers.gateway_process import run_app
from tests.support.servers.served import Served, empty_database, serve
from tests.support.servers.vendor import Submit, envelope, success_a

LIFE = ["queued", "submitting", "processing", "succeeded"]
BOOTSTRAP = "bootstrap-key-0123456789-abcdef"


def finish(served: Served, submit: Submit, upstream_id: str) -> None:
    assert served.call_back(submit, success_a(upstream_id)).status_code == 200


def succeed(served: Served, **body: Any) -> dict[str, Any]:
    task, submit = served.processing(**body)
    finish(served, submit, task["upstream_task_id"])
    return served.client.task(task["id"])


def events_of(task: dict[str, Any]) -> str:
    return f"/v1/tasks/{task['id']}/events"


def field_errors(response: httpx.Response) -> list[str]:
    assert response.json()["code"] == "invalid_request"
    return [error["field"] for error in response.json()["errors"]]


# --- one task


def test_a_task_is_followed_from_its_beginning_to_its_end(served: Served) -> None:
    task, submit = served.processing(metadata={"order": "42"})
    with served.follow(events_of(task)) as stream:
        stream.wait(lambda s: len(s.events) == 3)
        finish(served, submit, task["upstream_task_id"])
        events = stream.wait_for_end()
    assert [event.told for event in events] == [(task["id"], status) for status in LIFE]
    assert stream.ids == sorted(set(stream.ids))
    assert stream.comments == []
    assert events[-1].data == served.client.task(task["id"])
    assert events[-1].data["images"]


def test_each_event_has_the_task_as_it_was(served: Served) -> None:
    task = succeed(served)
    with served.follow(events_of(task)) as stream:
        queued, submitting, processing, succeeded = (event.data for event in stream.wait_for_end())
    assert [e["attempts"] for e in (queued, submitting, processing)] == [0, 1, 1]
    assert [e["images"] for e in (queued, submitting, processing)] == [[], [], []]
    assert (queued["upstream_task_id"], processing["upstream_task_id"]) == (None, task["upstream_task_id"])
    assert (queued["submitted_at"], processing["completed_at"]) == (None, None)
    assert queued["updated_at"] == queued["created_at"] == task["created_at"]
    assert queued.keys() == succeeded.keys() == task.keys()


def test_a_stream_has_headers_for_proxies_and_browsers(on_sqlite: Served) -> None:
    task = succeed(on_sqlite)
    with on_sqlite.follow(events_of(task)) as stream:
        stream.wait_for_end()
    assert stream.headers["content-type"].startswith("text/event-stream")
    assert stream.headers["cache-control"] == "no-store, no-transform"
    assert stream.headers["x-accel-buffering"] == "no"
    assert "content-length" not in stream.headers
    assert stream.headers["x-request-id"]
    assert stream.retry


def test_a_task_is_resumed_after_any_of_its_events(served: Served) -> None:
    task = succeed(served)
    with served.follow(events_of(task)) as stream:
        stream.wait_for_end()
    every = stream.ids
    for count in range(len(every)):
        with served.follow(events_of(task), last_id=every[count - 1] if count else None) as again:
            again.wait_for_end()
        assert again.ids == every[count:]


@pytest.mark.parametrize("beyond", [0, 1, 10**15, 10**30])
def test_a_stream_without_further_events_tells_browsers_not_to_reconnect(served: Served, beyond: int) -> None:
    task = succeed(served)
    with served.follow(events_of(task)) as stream:
        last = stream.wait_for_end()[-1].id
    assert last
    with served.follow(events_of(task), last_id=last + beyond) as again:
        assert (again.status, again.wait_for_end()) == (204, [])


def test_an_unfinished_task_is_resumed_after_its_newest_event(served: Served) -> None:
    task, submit = served.processing()
    with served.follow(events_of(task)) as stream:
        stream.wait(lambda s: len(s.events) == 3)
    with served.follow(events_of(task), last_id=stream.ids[-1]) as again:
        finish(served, submit, task["upstream_task_id"])
        again.wait_for_end()
    assert again.told == [(task["id"], "succeeded")]


def test_a_requeued_task_is_still_followed(served: Served) -> None:
    served.vendor.script(envelope(503, "busy"))
    task = served.client.submit()
    with served.follow(events_of(task)) as stream:
        submit = served.submit_of(task["id"])
        finish(served, submit, served.client.wait_for(task["id"], "processing")["upstream_task_id"])
        stream.wait_for_end()
    assert stream.statuses(task["id"]) == ["queued", "submitting", *LIFE]


def test_a_canceled_task_ends_its_stream(served: Served) -> None:
    served.vendor.on_submit = lambda _: envelope(503, "busy", Retry_After="600")
    task = served.client.submit()
    with served.follow(events_of(task)) as stream:
        stream.wait(lambda s: len(s.events) == 3)
        assert served.client.post(f"/v1/tasks/{task['id']}/cancel").status_code == 200
        stream.wait_for_end()
    assert stream.statuses(task["id"]) == ["queued", "submitting", "queued", "canceled"]


def test_the_id_to_resume_from_can_be_in_the_query(on_sqlite: Served) -> None:
    task = succeed(on_sqlite)
    with on_sqlite.follow(events_of(task)) as stream:
        stream.wait_for_end()
    path = f"{events_of(task)}?last_event_id={stream.ids[1]}"
    with on_sqlite.follow(path) as by_query, on_sqlite.follow(path, last_id=stream.ids[2]) as by_both:
        by_query.wait_for_end()
        by_both.wait_for_end()
    assert by_query.ids == stream.ids[2:]
    assert by_both.ids == stream.ids[3:]


@pytest.mark.parametrize("text", ["abc", "-1", "1.5", "0x1", "1 2"])
@pytest.mark.parametrize("path", ["/v1/events", "/v1/tasks/task_{}/events"])
def test_an_event_id_that_is_not_a_number_is_422(on_sqlite: Served, path: str, text: str) -> None:
    path = path.format("0" * 32)
    assert field_errors(on_sqlite.client.get(path, headers={"Last-Event-ID": text})) == ["Last-Event-ID"]
    assert field_errors(on_sqlite.client.get(path, params={"last_event_id": text})) == ["last_event_id"]


@pytest.mark.parametrize("task_id", ["task_" + "0" * 32, "task_x", "%00"])
def test_an_unknown_task_is_404(served: Served, task_id: str) -> None:
    with served.follow(f"/v1/tasks/{task_id}/events") as stream:
        assert stream.problem() == (404, "task_not_found")


# --- a project


def test_a_project_is_followed_from_the_newest_event(served: Served) -> None:
    succeed(served)
    with served.follow() as stream:
        one, two = succeed(served), succeed(served)
        stream.wait(lambda s: len(s.events) == 8)
    assert [stream.statuses(task["id"]) for task in (one, two)] == [LIFE, LIFE]
    assert stream.ids == sorted(set(stream.ids))


def test_a_project_is_resumed_without_gaps_or_duplicates(served: Served) -> None:
    with served.follow() as first:
        one = succeed(served)
        first.wait(lambda s: len(s.events) == 4)
    two = succeed(served)
    with served.follow(last_id=first.ids[1]) as again:
        three = succeed(served)
        again.wait(lambda s: len(s.events) == 10)
    assert again.ids[:2] == first.ids[2:]
    assert [status for _, status in again.told] == [*LIFE[2:], *LIFE, *LIFE]
    assert [again.statuses(task["id"]) for task in (one, two, three)] == [LIFE[2:], LIFE, LIFE]


def test_a_long_history_is_replayed_page_by_page(served: Served) -> None:
    served.vendor.on_submit = lambda _: envelope(400, "no")
    with served.follow() as live:
        for _ in range(120):
            served.client.submit()
        live.wait(lambda s: len(s.events) == 360)
    with served.follow(last_id=live.ids[0]) as again:
        again.wait(lambda s: len(s.events) == 359)
        task = served.client.submit()
        again.wait(lambda s: len(s.events) == 362)
    assert again.ids[:359] == live.ids[1:]
    assert again.statuses(task["id"]) == ["queued", "submitting", "failed"]


def test_an_event_id_never_issued_means_now(served: Served) -> None:
    with served.follow(last_id=10**17) as stream:
        task = succeed(served)
        stream.wait(lambda s: len(s.events) == 4)
    assert stream.statuses(task["id"]) == LIFE


def test_event_id_zero_means_the_beginning(served: Served) -> None:
    task = succeed(served)
    with served.follow(last_id=0) as stream:
        stream.wait(lambda s: s.statuses(task["id"]) == LIFE)


# --- several projects


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def with_keys(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory: Path = tmp_path_factory.mktemp("served")
    url = empty_database(request.param, request, directory)
    with serve(url, directory, bootstrap_api_key=BOOTSTRAP) as served:
        yield served


def test_a_project_gets_no_events_of_another(with_keys: Served, tmp_path: Path) -> None:
    served = with_keys
    served.vendor.on_submit = lambda _: envelope(400, "no")
    ours = {"Authorization": f"Bearer {BOOTSTRAP}"}
    theirs = {"Authorization": f"Bearer {create_key(tmp_path, served.database_url, 'other', '--project', 'other')}"}
    with served.follow(**ours) as ours_stream, served.follow(**theirs) as theirs_stream:
        other, mine = (
            served.client.post("/v1/tasks", json={"prompt": "x"}, headers=headers).json() for headers in (theirs, ours)
        )
        ours_stream.wait(lambda s: "failed" in s.statuses(mine["id"]))
        theirs_stream.wait(lambda s: "failed" in s.statuses(other["id"]))
    assert {task_id for task_id, _ in ours_stream.told} == {mine["id"]}
    assert {task_id for task_id, _ in theirs_stream.told} == {other["id"]}
    with served.follow(last_id=0, **ours) as replay:
        replay.wait(lambda s: "failed" in s.statuses(mine["id"]))
    assert other["id"] not in {task_id for task_id, _ in replay.told}
    with served.follow(events_of(other), **ours) as stream:
        assert stream.problem() == (404, "task_not_found")
    with served.follow(events_of(mine)) as stream:
        assert stream.problem() == (401, "unauthorized")
    with served.follow() as stream:
        assert stream.problem() == (401, "unauthorized")


def create_key(directory: Path, database_url: str, *arguments: str) -> str:
    done = run_app(directory, "keys", "create", *arguments, DATABASE_URL=database_url, SECRET_KEY="test-secret")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]
