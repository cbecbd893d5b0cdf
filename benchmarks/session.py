"""The shared resources of one benchmark run."""

import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.databases import KINDS, Databases, EmptyDatabase
from benchmarks.gateway import start_gateway
from benchmarks.load import Generator, Outcome, Plan, choose, request
from benchmarks.processes import Server
from benchmarks.revision import Revision, checked_out

_NOOP = Plan([request("GET", "/noop")])


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure, and for how long."""

    databases: tuple[str, ...] = KINDS
    rounds: int = 3
    seconds: float = 2.0
    connections: int = 128
    generator: str | None = None
    against: str | None = None
    """A Git revision to compare with."""


class Session:
    """One benchmark run; on exit, stops everything it started."""

    def __init__(self, directory: Path, options: Options) -> None:
        self.options = options
        self.directory = directory
        self.generator: Generator = choose(options.generator)
        self.revisions: tuple[Revision, ...] = (Revision("now"),)
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        try:
            if self.options.against is not None:
                then = self._exits.enter_context(checked_out(self.options.against, self.directory))
                self.revisions = (self.revisions[0], then)
            self.databases = self._exits.enter_context(Databases(self.directory))
            self.noop = self.start("benchmarks.noop", ready_path="/noop")
            self.upstream = self.start("benchmarks.upstream")
        except BaseException:
            self._exits.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def start(self, module: str, *, ready_path: str = "/", **environment: str) -> Server:
        """Start a server that runs until the session ends."""
        server = Server(module, directory=self.fresh_directory(), environment=environment, ready_path=ready_path)
        return self._exits.enter_context(server)

    def gateway(self, database: EmptyDatabase, revision: Revision | None = None, **settings: str) -> Server:
        """Create a gateway, of this revision by default."""
        root = (revision or self.revisions[0]).root
        return start_gateway(database, self.fresh_directory(), self.upstream.url, root=root, **settings)

    def fresh_directory(self) -> Path:
        """Return the path of a new directory."""
        return self.directory / uuid.uuid4().hex[:8]

    def load(self, port: int, plan: Plan, *, seconds: float | None = None) -> Outcome:
        """Put the session's load on a server."""
        wanted = self.options.seconds if seconds is None else seconds
        return self.generator.run(port, plan, connections=self.options.connections, seconds=wanted)

    def load_noop(self, *, seconds: float | None = None) -> Outcome:
        """Put the same load on the no-op endpoint."""
        return self.load(self.noop.port, _NOOP, seconds=seconds)
