"""Baselines: a no-op with a body, and a typical handler."""

import asyncio
import json
import uuid
from contextlib import AbstractContextManager, nullcontext

from benchmarks import usual
from benchmarks.databases import EmptyDatabase
from benchmarks.load import Plan, request
from benchmarks.paths import Path
from benchmarks.processes import Server
from benchmarks.session import Session

_SMALL = json.dumps({"prompt": "a lake at sunset"}).encode()
_VERDICT = json.dumps(
    {"code": 200, "msg": "success", "data": {"taskId": "0", "info": {"resultImageUrl": "https://tempfile.example/a"}}}
).encode()


class NoopPost(Path):
    """The no-op endpoint that reads a small body."""

    name = "noop-post"
    title = "no-op `POST` with a small body"

    def __init__(self, database: EmptyDatabase) -> None:
        self.database = database

    def server(self, session: Session) -> AbstractContextManager[Server]:
        """Use the session's no-op server."""
        return nullcontext(session.noop)

    def plan(self, at_most: int) -> Plan:
        """Prepare the request."""
        return Plan([request("POST", "/noop", _SMALL)])

    def settle(self) -> None:
        """Do nothing, as there is no database."""


class UsualVerdicts(Path):
    """Callbacks to a typical handler, without images and events."""

    name = "usual"
    title = "typical handler: select, update, commit"

    def __init__(self, database: EmptyDatabase) -> None:
        self.database = database

    def server(self, session: Session) -> AbstractContextManager[Server]:
        """Create the handler's server."""
        return Server(
            "benchmarks.usual", directory=session.fresh_directory(), environment={"DATABASE_URL": self.database.url}
        )

    def plan(self, at_most: int) -> Plan:
        """Add rows and prepare a callback for each."""
        ids = [uuid.uuid4().hex for _ in range(at_most)]
        asyncio.run(usual.seed(self.database.url, ids))
        return Plan([request("POST", f"/callbacks/{one}", _VERDICT) for one in ids], is_once=True)

    def applied(self) -> int:
        """Count rows with a committed callback."""
        return asyncio.run(usual.count_succeeded(self.database.url))

    def settle(self) -> None:
        """Do nothing, as there are few rows."""
