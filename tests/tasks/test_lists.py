"""Task lists: order, pages, filters and queue positions."""

import base64
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.servers.served import Served, empty_database, serve
from tests.support.servers.vendor import Reply, success_a

V1 = "/v1/tasks"


def page(served: Served, **query: Any) -> dict[str, Any]:
    response = served.client.get(V1, params=query)
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    assert set(body) == {"data", "next_cursor"}
    return body


def ids(served: Served, **query: Any) -> list[str]:
    return [task["id"] for task in page(served, **query)["data"]]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def quiet(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A gateway where all tasks but the first stay queued.

    The vendor holds the response to the only submit allowed at a time.
    """
    directory, gate = tmp_path_factory.mktemp("quiet"), threading.Event()
    database_url = empty_database(request.param, request, directory)
    settings = {"upstream_concurrency": 1, "upstream_timeout_seconds": 60.0}
    with serve(database_url, directory, **settings) as served:
        served.vendor.on_submit = lambda _: Reply({"code": 400, "msg": "no"}, gate=gate)
        held = served.client.submit(prompt="held")
        served.submit_of(held["id"])
        yield served
        for task in page(served, status="queued", limit=200)["data"]:
            served.client.post(f"{V1}/{task['id']}/cancel")
        gate.set()


def test_an_empty_list_is_a_page(quiet: Served) -> None:
    assert page(quiet, status="succeeded") == {"data": [], "next_cursor": None}


def test_pages_are_newest_first_and_stable_while_tasks_arrive(quiet: Served) -> None:
    made = [quiet.client.submit(prompt=f"{n}")["id"] for n in range(13)]
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        one = page(quiet, limit=3, **({"cursor": cursor} if cursor else {}))
        seen += [task["id"] for task in one["data"]]
        assert len(one["data"]) == 3
        cursor = one["next_cursor"]
        quiet.client.submit(prompt="newer")
    assert seen == made[:0:-1]
    rest = page(quiet, limit=200, cursor=cursor)
    assert rest["next_cursor"] is None
    everything = ids(quiet, limit=200)
    assert everything == sorted(everything, reverse=True)
    assert seen + [task["id"] for task in rest["data"]] == everything[4:]


def test_a_full_last_page_has_no_cursor(quiet: Served) -> None:
    for _ in range(2):
        quiet.client.submit()
    count = len(ids(quiet, limit=200))
    assert page(quiet, limit=count)["next_cursor"] is None
    assert page(quiet, limit=count - 1)["next_cursor"] is not None


def test_a_cursor_outlives_its_task(quiet: Served) -> None:
    first, second, third = [quiet.client.submit()["id"] for _ in range(3)]
    cursor = page(quiet, limit=1, status="queued")["next_cursor"]
    assert quiet.client.post(f"{V1}/{third}/cancel").status_code == 200
    assert quiet.client.delete(f"{V1}/{third}").status_code == 204
    assert ids(quiet, limit=2, status="queued", cursor=cursor) == [second, first]


def test_queue_positions_count_from_the_head(quiet: Served) -> None:
    for _ in range(2):
        quiet.client.submit()
    queued = page(quiet, status="queued", limit=200)["data"]
    assert [task["queue_position"] for task in queued] == list(range(len(queued), 0, -1))
    (held,) = page(quiet, status="submitting")["data"]
    assert held["queue_position"] is None
    oldest, newest = queued[-1], queued[0]
    assert quiet.client.submit()["queue_position"] == len(queued) + 1
    canceled = quiet.client.post(f"{V1}/{oldest['id']}/cancel").json()
    assert canceled["queue_position"] is None
    assert quiet.client.task(newest["id"])["queue_position"] == len(queued) - 1


def test_default_and_largest_page(quiet: Served) -> None:
    for _ in range(55 - len(ids(quiet, limit=200))):
        quiet.client.submit()
    assert len(ids(quiet)) == 50
    assert len(ids(quiet, limit="")) == 50
    assert len(ids(quiet, limit=1)) == 1
    assert len(ids(quiet, limit=200)) >= 55


def test_time_filters_include_their_start_and_exclude_their_end(quiet: Served) -> None:
    tasks = page(quiet, limit=200)["data"]
    for moment in {task["created_at"] for task in tasks}:
        later = [task["id"] for task in tasks if task["created_at"] >= moment]
        earlier = [task["id"] for task in tasks if task["created_at"] < moment]
        assert ids(quiet, created_after=moment, limit=200) == later
        assert ids(quiet, created_before=moment, limit=200) == earlier
        # Fractions of a millisecond count as well.
        assert ids(quiet, created_after=moment.replace("Z", "001Z"), limit=200) == [
            task["id"] for task in tasks if task["created_at"] > moment
        ]


@pytest.mark.parametrize(
    "moment",
    [
        "2000-01-01T00:00:00Z",
        "2000-01-01T00:00:00+05:30",
        "2000-01-01T00:00:00",
        "2000-01-01",
        "0001-01-01T00:00:00+14:00",
        "1969-12-31T23:59:59.999Z",
        "",
    ],
)
def test_times_are_accepted_in_many_formats(quiet: Served, moment: str) -> None:
    assert ids(quiet, created_after=moment, limit=1)


def test_extreme_times_are_accepted(quiet: Served) -> None:
    assert ids(quiet, created_after="9999-12-31T23:59:59.999999-14:00") == []
    assert ids(quiet, created_before="0001-01-01T00:00:00+14:00") == []


def test_filters_by_state_model_and_type(served: Served) -> None:
    succeeded, submit = served.processing()
    served.call_back(submit, success_a(succeeded["upstream_task_id"]))
    processing, _ = served.processing(model="nano-banana-pro", image_urls=["https://x.example/1.png"])
    failed, submit = served.processing(model="nano-banana-2")
    served.call_back(submit, {"code": 500, "msg": "no"})
    assert ids(served) == [failed["id"], processing["id"], succeeded["id"]]
    assert ids(served, status="succeeded") == [succeeded["id"]]
    assert ids(served, status="processing") == [processing["id"]]
    assert ids(served, status="failed") == [failed["id"]]
    assert ids(served, status="canceled") == []
    assert ids(served, model="nano-banana-pro") == [processing["id"]]
    assert ids(served, model="nano-banana", status="failed") == []
    assert ids(served, type="image_to_image") == [processing["id"]]
    assert ids(served, type="text_to_image", model="", status="", cursor="") == [failed["id"], succeeded["id"]]
    assert page(served, status="succeeded")["data"] == [served.client.task(succeeded["id"])]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"status": "done"}, "status"),
        ({"status": "QUEUED"}, "status"),
        ({"model": "dall-e"}, "model"),
        ({"type": "TEXTTOIAMGE"}, "type"),
        ({"limit": "0"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "201"}, "limit"),
        ({"limit": "many"}, "limit"),
        ({"limit": "1.5"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"created_after": "yesterday"}, "created_after"),
        ({"created_before": "2026-13-01"}, "created_before"),
        ({"created_before": "9" * 30}, "created_before"),
        ({"cursor": "nonsense"}, "cursor"),
        ({"cursor": "\x00"}, "cursor"),
        ({"cursor": "é"}, "cursor"),
        ({"cursor": base64.urlsafe_b64encode(b"task_\x00").decode()}, "cursor"),
        ({"cursor": "a" * 8_000}, "cursor"),
        ({"page": "2"}, "page"),
        ({"Status": "queued"}, "Status"),
    ],
    ids=lambda value: str(value)[:30].replace("\x00", "0"),
)
def test_an_invalid_query_is_422_and_names_the_parameter(on_sqlite: Served, query: dict[str, str], field: str) -> None:
    response = on_sqlite.client.get(V1, params=query)
    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert [error["field"] for error in response.json()["errors"]] == [field]
