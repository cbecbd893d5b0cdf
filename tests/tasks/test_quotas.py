"""Quotas hold under races between replicas, batches and idempotency keys."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Engine, event

from app.access.projects import list_projects, set_daily_budget
from app.clock import SystemClock
from app.db import quota_store
from app.db.engine import Database
from app.domain import quota
from app.domain.browser_token import BrowserToken
from app.domain.caller import Caller
from app.domain.models import Model
from app.domain.submission import Submission
from app.domain.task import TaskFilter
from app.errors import DailyBudgetExceeded, GatewayError, TokenExhausted
from app.tasks.admission import Admission
from app.tasks.retention import Retention
from app.tasks.service import TaskService
from app.writing.writer import Writer
from tests.support.clock import HandTimer
from tests.support.tasks import POLICY

CLOCK = SystemClock()
SUBMISSION = Submission(model=Model.NANO_BANANA, input={"prompt": "a lake", "image_urls": []}, metadata={})


class Replica:
    """The parts of a process that submit tasks."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.writer = Writer(self.database, CLOCK, lambda _: None)
        self.hand = HandTimer()
        admission = Admission(database=self.database, clock=CLOCK, rate=None, monotonic=self.hand)
        self.tasks = TaskService(
            database=self.database, writer=self.writer, clock=CLOCK, policy=POLICY, admission=admission
        )

    async def submit(self, caller: Caller, key: str | None = None) -> str:
        """Submit a task; returns its ID or the error code."""
        try:
            return (await self.tasks.submit(caller, SUBMISSION, key))[0].task.id
        except GatewayError as error:
            return error.code


@pytest.fixture
async def replicas(database_url: str) -> AsyncIterator[list[Replica]]:
    """Two replicas on one database.

    In production, a SQLite file has only one process, but the statements must be correct anyway.
    """
    first = Replica(database_url)
    both = [first, Replica(database_url)]
    for replica in both:
        replica.writer.start()
    yield both
    for replica in both:
        await replica.writer.aclose()
        await replica.database.aclose()


def holder(number: int, max_tasks: int, *, project: str = "default") -> Caller:
    token = BrowserToken(f"tok_{number:032x}", project, "user-7", None, max_tasks, CLOCK.now() + 600_000)
    return Caller(project, "user-7", token=token)


async def count(replica: Replica, project: str = "default") -> int:
    found, more = await replica.tasks.page(Caller(project), TaskFilter(), before_id=None, limit=200)
    assert more is None
    return len(found)


async def test_a_tokens_quota_is_exact_under_a_race(replicas: list[Replica]) -> None:
    callers = [holder(1, 7), holder(2, 3), holder(3, 0)]
    answers = await asyncio.gather(*(replicas[n % 2].submit(caller) for n in range(20) for caller in callers))
    assert answers.count("token_exhausted") == 60 - 10
    assert await count(replicas[0]) == 10


async def test_a_projects_budget_is_exact_under_a_race_and_counts_earlier_tasks(replicas: list[Replica]) -> None:
    first, second = replicas
    for _ in range(3):
        await first.submit(Caller("shop"))
    for budget in (5, 10):
        await set_daily_budget(first.database, CLOCK, "shop", budget)
    for replica in replicas:
        replica.hand.seconds += 1
    callers = [Caller("shop"), holder(1, 100, project="shop"), Caller("other")]
    answers = await asyncio.gather(*(replicas[n % 2].submit(callers[n % 3]) for n in range(60)))
    assert answers.count("daily_budget_exceeded") == 40 - 7
    assert (await count(second, "shop"), await count(second, "other")) == (10, 20)
    uses = {use.name: (use.daily_tasks, use.created_today) for use in await list_projects(first.database, CLOCK)}
    assert uses == {"default": (None, 0), "shop": (10, 10)}
    with pytest.raises(DailyBudgetExceeded) as refusal:
        await first.tasks.submit(Caller("shop"), SUBMISSION)
    assert 1 <= (refusal.value.retry_after or 0) <= 86_400


async def test_replays_do_not_count_and_rejections_leave_their_key_free(replicas: list[Replica]) -> None:
    first, second = replicas
    caller = holder(1, 1)
    made = await first.submit(caller, "one")
    assert made.startswith("task_")
    assert [await replica.submit(caller, "one") for replica in (*replicas, *replicas)] == [made] * 4
    assert await second.submit(caller, "two") == "token_exhausted"
    # With another token of the same subject, the key is free for a task.
    another = await first.submit(holder(2, 1), "two")
    assert another.startswith("task_")
    assert await second.submit(caller, "two") == another


async def test_without_a_quota_nothing_is_counted(replicas: list[Replica]) -> None:
    statements: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    first = replicas[0]
    await first.submit(Caller("default"))
    event.listen(Engine, "before_cursor_execute", note)
    try:
        await asyncio.gather(*(first.submit(Caller("default"), f"key-{n}") for n in range(5)))
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert any("idempotency_keys" in statement for statement in statements)
    assert [one for one in statements if "quota_counts" in one or "project_budgets" in one] == []


async def test_one_batch_creates_tasks_up_to_the_quota_and_rejects_the_rest(replicas: list[Replica]) -> None:
    caller = holder(1, 5)
    answers = await asyncio.gather(*(replicas[0].submit(caller, f"key-{n}") for n in range(12)))
    # In order of arrival, because all share a few transactions.
    assert [answer == "token_exhausted" for answer in answers] == [False] * 5 + [True] * 7


async def test_a_task_counts_against_all_of_its_quotas_or_none(replicas: list[Replica]) -> None:
    first = replicas[0]
    await set_daily_budget(first.database, CLOCK, "default", 2)
    answers = [await first.submit(holder(1, 5)) for _ in range(4)]
    assert answers[2:] == ["daily_budget_exceeded"] * 2
    await set_daily_budget(first.database, CLOCK, "default", None)
    first.hand.seconds += 1
    # Rejected submits didn't count toward the token's limit.
    answers = [await first.submit(holder(1, 5)) for _ in range(4)]
    assert [answer.startswith("task_") for answer in answers] == [True, True, True, False]
    assert answers[3] == TokenExhausted.code


async def test_counts_of_expired_quotas_are_deleted(replicas: list[Replica]) -> None:
    class Later:
        def now(self) -> int:
            return CLOCK.now() + 3 * 3_600_000

    first = replicas[0]
    caller = holder(1, 5)
    await first.submit(caller)
    now = Retention(database=first.database, writer=first.writer, clock=CLOCK, days=0)
    later = Retention(database=first.database, writer=first.writer, clock=Later(), days=0)
    assert await now.remove_expired() == 0
    assert await later.remove_expired() == 1
    assert caller.token is not None
    name = quota.of_token(caller.token).name
    assert await first.database.read(lambda connection: quota_store.used(connection, [name])) == {}
