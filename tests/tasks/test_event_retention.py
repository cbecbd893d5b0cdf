"""Old events: which are deleted, and what streams then contain."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import update

from app.clock import SystemClock
from app.db import event_store
from app.db.engine import Database
from app.db.schema import events as event_table
from app.db.schema import tasks as task_table
from app.tasks.retention import Retention
from app.writing.writer import Writer
from tests.support.fixtures import Start
from tests.support.servers.gateway import LiveGateway
from tests.support.servers.served import Served
from tests.support.servers.vendor import Vendor, envelope, success_a
from tests.support.waiting import until

_DAY_MS = 86_400_000


def remove_events(served: Served, *, older_than_days: float = 0.5) -> None:
    """Do what the sweep does with EVENT_RETENTION_DAYS, twice."""

    async def work() -> None:
        database = Database(served.database_url)
        writer = Writer(database, SystemClock(), lambda _: None)
        writer.start()
        retention = Retention(database=database, writer=writer, clock=SystemClock(), days=0, event_days=older_than_days)
        for _ in range(2):
            while await retention.remove_old_events():
                pass
        await writer.aclose()
        await database.aclose()

    asyncio.run(work())


def age(served: Served, task_ids: Sequence[str], *, days: float) -> None:
    """Make tasks this many days older."""

    async def work() -> None:
        database = Database(served.database_url)
        earlier = {name: task_table.c[name] - round(days * _DAY_MS) for name in ("completed_at", "updated_at")}
        statement = update(task_table).where(task_table.c.id.in_(task_ids)).values(earlier)
        await database.write(lambda connection: connection.execute(statement))
        older = update(event_table).where(event_table.c.task_id.in_(task_ids))
        moved = older.values(created_at=event_table.c.created_at - round(days * _DAY_MS))
        await database.write(lambda connection: connection.execute(moved))
        await database.aclose()

    asyncio.run(work())


def succeed(served: Served) -> str:
    task, submit = served.processing()
    assert served.call_back(submit, success_a(task["upstream_task_id"])).status_code == 200
    return str(task["id"])


def test_the_feed_goes_on_without_the_events_of_tasks_that_ended_long_ago(served: Served) -> None:
    with served.follow() as first:
        old, older = succeed(served), succeed(served)
        young, (running, submit) = succeed(served), served.processing()
        first.wait(lambda s: len(s.events) == 15)
    age(served, [old, older, running["id"]], days=1)
    with served.follow() as live:
        remove_events(served)
        with served.follow(last_id=first.ids[0]) as again:
            again.wait(lambda s: len(s.events) == 7)
            assert again.statuses(young) == ["queued", "submitting", "processing", "succeeded"]
            assert again.statuses(running["id"]) == ["queued", "submitting", "processing"]
            assert set(again.ids) < set(first.ids)
            served.call_back(submit, success_a(running["upstream_task_id"]))
            again.wait(lambda s: s.statuses(running["id"])[-1] == "succeeded")
        live.wait(lambda s: s.statuses(running["id"]) == ["succeeded"])
    # The task itself is still there, and its stream says that nothing more will come.
    assert served.client.task(old)["status"] == "succeeded"
    assert served.client.get(f"/v1/tasks/{old}/events").status_code == 204


def test_an_id_that_is_no_longer_kept_resumes_after_it(served: Served) -> None:
    """Even if it was the newest: ids are never reused."""
    with served.follow() as first:
        ids = [succeed(served) for _ in range(2)]
        first.wait(lambda s: len(s.events) == 8)
    age(served, ids, days=1)
    remove_events(served)
    with served.follow(last_id=first.ids[-1]) as again:
        new = succeed(served)
        again.wait(lambda s: len(s.events) == 4)
    assert again.statuses(new) == ["queued", "submitting", "processing", "succeeded"]
    assert again.ids[0] > first.ids[-1]
    with served.follow(last_id=first.ids[3]) as again:
        again.wait(lambda s: len(s.events) == 4)
    assert again.statuses(new) == ["queued", "submitting", "processing", "succeeded"]


def test_events_are_scanned_again_from_the_first_that_was_kept(served: Served) -> None:
    task, submit = served.processing()
    others = [succeed(served) for _ in range(3)]
    age(served, [task["id"], *others], days=1)

    async def work() -> list[int]:
        database = Database(served.database_url)
        writer = Writer(database, SystemClock(), lambda _: None)
        writer.start()
        retention = Retention(database=database, writer=writer, clock=SystemClock(), days=0, event_days=0.5)
        left = []
        while await retention.remove_old_events():
            pass
        left.append(len(await database.read(lambda c: event_store.of_task(c, task["id"]))))
        await asyncio.to_thread(served.call_back, submit, success_a(task["upstream_task_id"]))
        await asyncio.to_thread(age, served, [task["id"]], days=1)
        while await retention.remove_old_events():
            pass
        left.append(len(await database.read(lambda c: event_store.of_task(c, task["id"]))))
        await writer.aclose()
        await database.aclose()
        return left

    assert asyncio.run(work()) == [3, 0]


def test_the_service_deletes_old_events_by_itself(
    start: Start, database_url: str, vendor: Vendor, tmp_path: Path
) -> None:
    vendor.on_submit = lambda _: envelope(400, "no")
    with LiveGateway(upstream_url=vendor.url, data_dir=tmp_path, secret_key="s", database_url=database_url) as first:
        task = first.client.submit()["id"]
        first.client.wait_for(task)
    again = start(database_url=database_url, event_retention_days=1e-9)
    until(lambda: again.client.get(f"/v1/tasks/{task}/events").status_code == 204)
    assert again.client.task(task)["status"] == "failed"
