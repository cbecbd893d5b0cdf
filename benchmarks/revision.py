"""Checks out another revision and seeds databases with its code."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from benchmarks.databases import EmptyDatabase
from benchmarks.load import Plan
from benchmarks.processes import ROOT, run

_SCRIPT = Path(__file__).with_name("seeder.py")
_GIT_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Revision:
    """A revision of the project in a directory."""

    name: str
    root: Path = ROOT


@contextmanager
def checked_out(name: str, directory: Path) -> Iterator[Revision]:
    """Check a revision out into a temporary Git worktree."""
    commit = run(["git", "rev-parse", "--short", "--verify", f"{name}^{{commit}}"], seconds=_GIT_SECONDS).strip()
    root = directory / "against"
    try:
        run(["git", "worktree", "add", "--quiet", "--detach", str(root), commit], seconds=_GIT_SECONDS)
        yield Revision(commit, root)
    finally:
        # Also cleans up after an interrupted checkout, and after killed runs.
        shutil.rmtree(root, ignore_errors=True)
        run(["git", "worktree", "prune"], seconds=_GIT_SECONDS)


class SeededPath:
    """A path on one database, prepared by a revision's code."""

    def __init__(self, revision: Revision, name: str, database: EmptyDatabase) -> None:
        self.database = database
        self._seeder = Seeder(revision, database)
        try:
            self.title = str(self._seeder.call("open", name))
        except BaseException:
            self._seeder.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._seeder.stop()

    def plan(self, at_most: int) -> Plan:
        """Prepare up to `at_most` requests."""
        plan = self._seeder.call("plan", at_most)
        return Plan([one.encode("latin-1") for one in plan["requests"]], is_once=plan["is_once"])

    def applied(self) -> int | None:
        """Count committed changes; None if requests change nothing."""
        count = self._seeder.call("applied")
        return None if count is None else int(count)

    def settle(self) -> None:
        """Let the database finish maintenance after inserts."""
        self._seeder.call("settle")


class Seeder:
    """Runs `benchmarks/seeder.py` with a revision's code."""

    def __init__(self, revision: Revision, database: EmptyDatabase) -> None:
        # -P keeps the script's directory out of the import path, where it would precede the revision's.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-W", "ignore", str(_SCRIPT), database.kind, database.url],
            cwd=revision.root,
            env={**os.environ, "PYTHONPATH": str(revision.root)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def call(self, name: str, *arguments: object) -> Any:
        """Call a method of the script's `Seeder`."""
        pipes = self._process.stdin, self._process.stdout
        if pipes[0] is None or pipes[1] is None:
            raise RuntimeError("the seeder has no pipes")
        print(json.dumps([name, *arguments]), file=pipes[0], flush=True)
        reply = pipes[1].readline()
        if not reply:
            raise RuntimeError(f"the seeder failed in {name}")
        return json.loads(reply)

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.communicate()
