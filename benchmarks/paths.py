"""The service's hot paths, as prepared requests."""

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
    """One path on one database; `title` is for the table."""

    name: str
    title: str

    def __init__(self, database: EmptyDatabase) -> None:
        self.database = database
        self._store = Store(database.url)

    def server(self, session: Session) -> AbstractContextManager[Server]:
        """Create the server to measure, with dispatch paused."""
        return session.gateway(self.database)

    @abstractmethod
    def plan(self, at_most: int) -> Plan:
        """Prepare up to `at_most` requests and the rows they need."""

    def applied(self) -> int | None:
        """Count committed changes; None if requests change nothing."""
        return None

    def settle(self) -> None:
        """Let the database finish maintenance after inserts."""
        self._store.settle()


class Verdicts(Path):
    """Upstream callbacks, each with the result of another task."""

    name = "verdicts"
    title = "fresh verdict, `POST /callbacks/…`"

    def plan(self, at_most: int) -> Plan:
        """Add tasks in `processing` and prepare their callbacks."""
        tokens = CallbackTokens([SECRET])
        return Plan([verdict_request(tokens, task) for task in self._store.add_processing(at_most)], is_once=True)

    def applied(self) -> int:
        """Count succeeded tasks."""
        return self._store.count(Status.SUCCEEDED)


class Submits(Path):
    """Client submits."""

    name = "submits"
    title = "submit, `POST /v1/tasks`"

    def plan(self, at_most: int) -> Plan:
        """Prepare a small submit."""
        return Plan([request("POST", "/v1/tasks", _SUBMIT)])

    def applied(self) -> int:
        """Count tasks."""
        return self._store.count()


class KeyedSubmits(Submits):
    """Submits with idempotency keys."""

    name = "submits-keyed"
    title = "submit with `Idempotency-Key`"

    def plan(self, at_most: int) -> Plan:
        """Prepare submits with distinct keys."""
        keys = [{"Idempotency-Key": uuid.uuid4().hex} for _ in range(at_most)]
        return Plan([request("POST", "/v1/tasks", _SUBMIT, key) for key in keys], is_once=True)


class Reads(Path):
    """Reads of tasks, half succeeded, half in a long queue."""

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
    """Reads with a short queue, where positions are exact."""

    name = "reads-short"
    title = "read, 100 queued"
    queued = 100


class Lists(Reads):
    """Lists of a project's newest tasks."""

    name = "lists"
    title = "list, `GET /v1/tasks?limit=20`"

    def plan(self, at_most: int) -> Plan:
        """Prepare the first page."""
        return Plan([request("GET", "/v1/tasks?limit=20")])


def verdict_request(tokens: CallbackTokens, task: Task) -> bytes:
    """Encode the callback for a success with one image."""
    info = {"resultImageUrl": f"https://tempfile.example/workers/nano/image_{task.upstream_task_id}.png"}
    data = {"taskId": task.upstream_task_id, "info": info}
    verdict = {"code": 200, "msg": "Image generated successfully.", "data": data}
    return request("POST", f"{CALLBACK_PATH}/{tokens.sign(task.id)}", json.dumps(verdict).encode())
