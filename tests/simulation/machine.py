"""The state machine: events in any order, and the invariants."""

import asyncio
import atexit
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.db.engine import Database
from app.db.migrate import migrate
from app.domain.verdict import ErrorCode, Failed, Succeeded, TaskError
from tests.simulation.books import Books, Entry
from tests.simulation.vendor import SENT_IN_VAIN, Fate, Order, Outage, Talk
from tests.simulation.world import POLICY, Plug, PluggedDatabase, World

_QUEUED_IN_AN_OUTAGE, _TURN_SECONDS = 8, 5
# Every invariant is about all tasks, so many of them make a life slow.
_MOST_TASKS = 40
_ANY = st.integers(min_value=0, max_value=10**6)
# In memory where possible: the simulation tests order, not disks.
_DIRECTORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108 -- a file system, not a file
_NEXT = {
    None: {"queued"},
    "queued": {"submitting", "canceled", "failed", "succeeded", "processing"},
    "submitting": {"queued", "processing", "succeeded", "failed"},
    "processing": {"succeeded", "failed"},
    "succeeded": set(),
    "canceled": set(),
    "failed": {"succeeded", "failed"},
}
_ENDS = {"succeeded", "failed", "canceled"}
_GUESSES = {ErrorCode.TIMEOUT, ErrorCode.SUBMISSION_UNKNOWN, ErrorCode.RESULT_UNREADABLE}

steps = 0
"""How many rules this process has run."""
crashes = 0
"""How often the simulated gateway has died in this process."""


class TaskLife(RuleBasedStateMachine):
    """One life of a gateway and its vendor."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = _stage()
        self.loop = self.stage.loop
        self.world = World(self.stage.database, self.stage.clear())
        self.seen = 0
        self.histories: dict[str, list[str]] = {}
        self.finals: dict[str, tuple[str, str | None]] = {}
        self.timed_out: set[str] = set()
        self.run(self.world.boot())

    def run(self, work: Any) -> Any:
        global steps  # noqa: PLW0603 -- a counter for the report
        steps += 1
        return self.loop.run_until_complete(work)

    @initialize()
    def begin(self) -> None:
        self.run(self.world.submit(None))

    @rule(key=st.sampled_from([None, None, None, "a", "b", "c"]))
    def submit(self, key: str | None) -> None:
        self.run(self.world.submit(key))

    @rule(limit=st.integers(1, 4))
    def claim(self, limit: int) -> None:
        self.run(self.world.claim(limit))

    @precondition(lambda self: self.world.in_hand)
    @rule(
        index=_ANY,
        fate=st.sampled_from(list(Fate)),
        succeeds=st.booleans(),
        early=st.sampled_from([None, None, "verdict", "garbage"]),
    )
    def send(self, index: int, fate: Fate, succeeds: bool, early: str | None) -> None:
        self.run(self.world.send(index, fate, succeeds=succeeds, early=early))

    @precondition(lambda self: self.world.vendor.orders)
    @rule(index=_ANY, kind=st.sampled_from(["verdict", "verdict", "contradiction", "garbage", "no_url", "wrong_task"]))
    def call_back(self, index: int, kind: str) -> None:
        order = self._order(index)
        order.is_finished = True
        if kind == "verdict":
            self.run(self.world.call_back(order, order.verdict, order.upstream_id))
        elif kind == "contradiction":
            self.run(self.world.call_back(order, _opposite(order), order.upstream_id))
        elif kind == "wrong_task":
            # Until an id is recorded, the gateway accepts any id, so only a recorded one can mismatch.
            entry = self.world.books.tasks().get(order.task_id)
            if entry is not None and entry.upstream_task_id is not None:
                self.run(self.world.call_back_with(order, _success("f" * 32)))
        else:
            no_url = _success(order.upstream_id).replace(b"https://", b"ftp://")
            if kind == "no_url":
                self.world.vendor.unreadable.add(order.task_id)
            self.run(self.world.call_back_with(order, b'{"code":' if kind == "garbage" else no_url))

    @precondition(lambda self: self.world.vendor.orders)
    @rule(index=_ANY)
    def finish(self, index: int) -> None:
        """Finish an order; only other rules send its callback."""
        self._order(index).is_finished = True
        self.run(asyncio.sleep(0))

    @rule(talk=st.sampled_from(list(Talk)))
    def poll(self, talk: Talk) -> None:
        self.world.vendor.talk = talk
        self.run(self.world.poll())

    @rule()
    def expire(self) -> None:
        self.run(self.world.expire())

    @rule(seconds=st.sampled_from([1, 5, 61, 400, 1000, 4000]))
    def wait(self, seconds: int) -> None:
        self.world.clock.time += seconds * 1000
        self.run(asyncio.sleep(0))

    @rule(seconds=st.sampled_from([-7200, -3600, -600, -5, 5, 600, 3600, 7200]))
    def step_clock(self, seconds: int) -> None:
        """Set the clock; sending must continue without waiting."""
        self.run(self.world.step_clock(seconds * 1000))
        world = self.world
        if seconds > 0 or world.in_hand or world.database.pull is not None:
            return
        world.clock.advance(POLICY.longest_hold + 1)
        queued = [task for task in world.books.tasks().values() if task.status == "queued"]
        due = [task for task in queued if task.deadline_at and task.deadline_at > world.clock.time]
        self.run(world.claim(1))
        assert world.in_hand or not due, "nothing is sent after the clock was set back"

    @precondition(lambda self: self.world.database.pull is None and len(self.world.accepted) < _MOST_TASKS)
    @rule(outage=st.sampled_from(list(Outage)), seconds=st.sampled_from([25, 25, 120]))
    def outage(self, outage: Outage, seconds: int) -> None:
        """Go through an outage, which may cost a few tasks."""
        world = self.world
        for _ in range(_QUEUED_IN_AN_OUTAGE):
            self.run(world.submit(None))
        before, (submits, polls) = world.books.tasks(), (world.vendor.submits, world.vendor.polls)
        # Tasks claimed before, and as many concurrent calls as there were answers.
        at_once = len(world.in_hand) + min(4 + len(world.vendor.orders), 16)
        self._live_through(outage, seconds)
        probes = _probes_within(seconds)
        if outage is not Outage.NONE:
            assert world.vendor.submits - submits <= at_once + probes, "too many submits in an outage"
        if outage in {Outage.SILENT, Outage.UNREACHABLE, Outage.RATE_LIMITED}:
            assert world.vendor.polls - polls <= 32 + probes, "too many polls in an outage"
        if outage is Outage.SILENT:
            # Probes 1, 2, 4, 8 and so on; the others come after a free check that fails.
            assert world.vendor.submits - submits <= at_once + probes.bit_length(), "too many tasks spent"
        after = world.books.tasks()
        refused = [
            task_id
            for task_id, task in after.items()
            if task.status == "failed"
            and task.error_code in {"invalid_request", "upstream_error"}
            and not (task_id in before and _has_ended(before[task_id], world.clock.time))
            and task_id not in world.first_verdict
        ]
        # The first failure in an outage may have been a task's last attempt.
        assert len(refused) <= 1 or outage is Outage.NONE, f"{outage} failed {refused}"
        if outage not in SENT_IN_VAIN:
            lost = [t for t in after.values() if t.error_code == "submission_unknown" and t.id not in world.uncertain]
            assert not lost

    @precondition(lambda self: self.world.accepted)
    @rule(index=_ANY, verb=st.sampled_from(["cancel", "retry", "delete"]))
    def ask_for(self, index: int, verb: str) -> None:
        ids = sorted(self.world.accepted)
        self.run(self.world.ask_for(ids[index % len(ids)], verb))

    @rule()
    def crash(self) -> None:
        async def work() -> None:
            await self.world.power_off()
            await self.world.boot()

        self.run(work())

    @rule(plug=st.sampled_from(list(Plug)))
    def crash_at_next_commit(self, plug: Plug) -> None:
        self.world.database.pull = plug
        self.run(asyncio.sleep(0))

    @invariant()
    def holds(self) -> None:
        self._check()

    def teardown(self) -> None:
        try:
            self.loop.run_until_complete(self._come_to_rest())
            self._check()
        finally:
            global crashes  # noqa: PLW0603 -- a counter for the report
            crashes += self.world.crashes
            self.loop.run_until_complete(self.world.shut_down())

    def _check(self) -> None:
        for number, task_id, state in self.world.books.events_after(self.seen):
            history = self.histories.setdefault(task_id, [])
            before = history[-1] if history else None
            assert state in _NEXT[before], f"{before} -> {state} after {history}"
            history.append(state)
            self.seen = number
        tasks = self.world.books.tasks()
        missing = self.world.accepted - tasks.keys() - self.world.deleted - self.world.perhaps_deleted
        assert not missing, f"accepted tasks are gone: {missing}"
        for task in tasks.values():
            self._check_task(task)
        self._check_deliveries()

    def _check_deliveries(self) -> None:
        """Check that each end, guesses included, has one delivery."""
        wanted = Counter(
            (task_id, state)
            for task_id in self.world.books.wants_webhooks()
            for state in self.histories[task_id]
            if state in _ENDS
        )
        planned = self.world.books.deliveries()
        assert planned == wanted, f"unexpected deliveries: {planned - wanted}, missing: {wanted - planned}"

    def _check_task(self, task: Entry) -> None:
        history = self.histories[task.id]
        assert history[-1] == task.status, f"{history} but {task.status}"
        assert history.count("submitting") == task.attempts
        accepted = self.world.vendor.accepted_for.get(task.id, [])
        assert len(accepted) <= 1, f"{task.id} was accepted {len(accepted)} times upstream"
        assert (task.deadline_at is None) is task.is_terminal
        if task.status == "failed" and task.error_code == ErrorCode.SUBMISSION_UNKNOWN:
            assert task.id in self.world.uncertain, "unknown, although the outcome was clear"
        if task.error_code == ErrorCode.RESULT_UNREADABLE:
            assert task.id in self.world.vendor.unreadable, "unreadable, although all was readable"
        elif task.error_code == ErrorCode.TIMEOUT and task.upstream_task_id is not None:
            assert task.id not in self.world.vendor.unreadable or task.id in self.timed_out, "a lost unreadable success"
            self.timed_out.add(task.id)
        verdict = self.world.first_verdict.get(task.id)
        if verdict is not None and task.status != "canceled":
            expected = "succeeded" if isinstance(verdict, Succeeded) else "failed"
            assert task.status == expected, f"received {verdict}, is {task.status}"
        if task.is_final:
            seen = (task.status, task.error_code)
            assert self.finals.setdefault(task.id, seen) == seen, "a final state changed"
        if history[-2:] == ["failed", "failed"]:
            assert task.error_code not in _GUESSES, "a guess replaced a failure"

    async def _come_to_rest(self) -> None:
        """Check that every task ends with an honest vendor."""
        world = self.world
        world.database.pull, world.vendor.talk, world.vendor.outage = None, Talk.TRUE, Outage.NONE
        for order in world.vendor.orders.values():
            order.is_finished = True
        for _ in range(200):
            await world.claim(16)
            while world.in_hand:
                await world.send(0, Fate.ACCEPTED, succeeds=True, early=None)
                for order in world.vendor.orders.values():
                    order.is_finished = True
            world.clock.time += POLICY.hold_retry + 1
            await world.poll()
            await world.expire()
            open_tasks = [task for task in world.books.tasks().values() if not task.is_terminal]
            if not open_tasks:
                break
        assert not open_tasks, f"never ended: {open_tasks}"

    def _live_through(self, outage: Outage, seconds: int) -> None:
        """Let the loops run during an outage."""
        world = self.world
        world.vendor.outage = outage
        for _ in range(0, seconds, _TURN_SECONDS):
            self.run(world.claim(16))
            while world.in_hand:
                self.run(world.send(0, Fate.ACCEPTED, succeeds=True, early=None))
            self.run(world.poll())
            self.run(world.expire())
            world.clock.advance(_TURN_SECONDS * 1000)
        world.vendor.outage = Outage.NONE

    def _order(self, index: int) -> Order:
        orders = list(self.world.vendor.orders.values())
        return orders[index % len(orders)]


def _has_ended(task: Entry, now: int) -> bool:
    """Whether a task had ended or exceeded its queue timeout."""
    return task.is_terminal or (task.deadline_at is not None and task.deadline_at <= now)


def _probes_within(seconds: int) -> int:
    """How many probes fit into a time with doubling pauses."""
    probes, passed = 0, 0
    while passed <= seconds * 1000:
        probes += 1
        passed += POLICY.unwell_pause(probes)
    return probes


def _success(upstream_id: str) -> bytes:
    return (
        b'{"code":200,"msg":"ok","data":{"taskId":"'
        + upstream_id.encode()
        + b'","info":{"resultImageUrl":"https://other.example/x.png"}}}'
    )


def _opposite(order: Order) -> Succeeded | Failed:
    if isinstance(order.verdict, Succeeded):
        return Failed(order.upstream_id, TaskError(ErrorCode.GENERATION_FAILED, "the opposite", "501"))
    return Succeeded(order.upstream_id, ("https://other.example/x.png",))


class Stage:
    """What all lives in a process share.

    Creating the loop, the file and the statements takes longer than a life.
    """

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._directory = Path(tempfile.mkdtemp(dir=_DIRECTORY))
        atexit.register(shutil.rmtree, self._directory, ignore_errors=True)
        self._template, self._file = self._directory / "template.db", self._directory / "life.db"
        self.loop.run_until_complete(self._make_template())
        self.database = PluggedDatabase(f"sqlite:///{self._file}")
        self.books: Books | None = None

    def clear(self) -> Books:
        """Begin with an empty, migrated database."""
        self.loop.run_until_complete(self.database.aclose())
        if self.books is not None:
            self.books.close()
        for leftover in self._directory.glob("life.db-*"):
            leftover.unlink()
        shutil.copyfile(self._template, self._file)
        self.books = Books(self._file)
        return self.books

    async def _make_template(self) -> None:
        database = Database(f"sqlite:///{self._template}")
        await migrate(database)
        await database.aclose()


_stages: list[Stage] = []


def _stage() -> Stage:
    if not _stages:
        _stages.append(Stage())
    return _stages[0]
