"""The paths of the service that clients and the upstream take often, each as requests prepared for a load."""

import json
import uuid
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager

from app.domain.callback import CALLBACK_PATH, CallbackTokens
from app.domain.task import Status, Task
from benchmarks.databases import EmptyDatabase
from benchmarks.gateway import SECRET
from benchmarks.load import Plan, request
from benchmarks.processes import Server
from benchmarks.seeding import Store
from benchmarks.session import Session

_SUBMIT = json.dumps({"prompt": "a lake at sunset", "aspect_ratio": "16:9", "metadata": {"order": "42"}}).encode()
_READ_TASKS = 4_000


class Path(ABC):
    """One path on one database. `title` names it in the table."""

    name: str
    title: str

    def __init__(self, database: EmptyDatabase) -> None:
        self.database = database
        self._store = Store(database.url)

    def server(self, session: Session) -> AbstractContextManager[Server]:
        """Make the server that is measured, with dispatch held back."""
        return session.gateway(self.database)

    @abstractmethod
    def plan(self, at_most: int) -> Plan:
        """Prepare up to so many requests, with what the database must hold for them."""

    def applied(self) -> int | None:
        """Count what 2xx answers have promised so far, as the database has it; None where they promise nothing."""
        return None

    def settle(self) -> None:
        """Let the database come to rest after it was filled."""
        self._store.settle()


class Verdicts(Path):
    """Callbacks of the upstream, each for another task that waits for its verdict."""

    name = "verdicts"
    title = "fresh verdict, `POST /callbacks/…`"

    def plan(self, at_most: int) -> Plan:
        """Add tasks in `processing` and prepare the verdict of each."""
        tokens = CallbackTokens([SECRET])
        return Plan([verdict_request(tokens, task) for task in self._store.add_processing(at_most)], is_once=True)

    def applied(self) -> int:
        """Count succeeded tasks."""
        return self._store.count(Status.SUCCEEDED)


class Submits(Path):
    """Submits of clients."""

    name = "submits"
    title = "submit, `POST /v1/tasks`"

    def plan(self, at_most: int) -> Plan:
        """Prepare a small submit."""
        return Plan([request("POST", "/v1/tasks", _SUBMIT)])

    def applied(self) -> int:
        """Count tasks."""
        return self._store.count()


class KeyedSubmits(Submits):
    """Submits that bring an idempotency key each."""

    name = "submits-keyed"
    title = "submit with `Idempotency-Key`"

    def plan(self, at_most: int) -> Plan:
        """Prepare submits with a fresh key each."""
        keys = [{"Idempotency-Key": uuid.uuid4().hex} for _ in range(at_most)]
        return Plan([request("POST", "/v1/tasks", _SUBMIT, key) for key in keys], is_once=True)


class Reads(Path):
    """Looks at single tasks, half of them succeeded with an image, half queued in a long queue."""

    name = "reads"
    title = "read, `GET /v1/tasks/{id}`"
    queued = _READ_TASKS // 2

    def __init__(self, database: EmptyDatabase) -> None:
        super().__init__(database)
        succeeded = self._store.add_succeeded(_READ_TASKS // 2)
        queued = self._store.add_queued(self.queued)
        turns = [queued[number % self.queued] for number in range(len(succeeded))]
        mixed = [task for pair in zip(succeeded, turns, strict=True) for task in pair]
        self._plan = Plan([request("GET", f"/v1/tasks/{task.id}") for task in mixed])

    def plan(self, at_most: int) -> Plan:
        """Prepare reads of all tasks in turn."""
        return self._plan


class ReadsOfShortQueue(Reads):
    """The same with a short queue, in which positions are told exactly."""

    name = "reads-short"
    title = "read, 100 queued"
    queued = 100


class Lists(Reads):
    """Looks at the newest tasks of a project."""

    name = "lists"
    title = "list, `GET /v1/tasks?limit=20`"

    def plan(self, at_most: int) -> Plan:
        """Prepare the first page."""
        return Plan([request("GET", "/v1/tasks?limit=20")])


def verdict_request(tokens: CallbackTokens, task: Task) -> bytes:
    """Write the upstream's callback for a task in `processing`: success with one image, shape A."""
    info = {"resultImageUrl": f"https://tempfile.example/workers/nano/image_{task.upstream_task_id}.png"}
    data = {"taskId": task.upstream_task_id, "info": info}
    verdict = {"code": 200, "msg": "Image generated successfully.", "data": data}
    return request("POST", f"{CALLBACK_PATH}/{tokens.sign(task.id)}", json.dumps(verdict).encode())
