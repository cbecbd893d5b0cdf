"""Fills a database and prepares requests with one revision's code.

It runs as a file with the revision's directory in `PYTHONPATH`, so `app` and `benchmarks` are that revision's. Each
JSON line on standard input is a call, `[name, *arguments]`, and each line printed is its result. It uses only names
that all revisions have: `PATHS`, `Path`, `Store`, `verdict_request`, `SECRET`.
"""

import argparse
import json
import sys
from typing import Any

from benchmarks import paths, seeding, throughput
from benchmarks.databases import EmptyDatabase
from benchmarks.gateway import SECRET


class Seeder:
    """The calls, for one database."""

    def __init__(self, kind: str, url: str) -> None:
        self._database = EmptyDatabase(kind, url)
        self._path: paths.Path | None = None

    def open(self, name: str) -> str:
        """Create a path's tables and rows; return its title."""
        self._path = throughput.PATHS[name](self._database)
        return self._path.title

    def plan(self, at_most: int) -> dict[str, Any]:
        """Prepare requests, with bytes decoded as Latin-1."""
        plan = self._opened.plan(at_most)
        return {"requests": [one.decode("latin-1") for one in plan.requests], "is_once": plan.is_once}

    def settle(self) -> None:
        """Let the database finish maintenance after inserts."""
        self._opened.settle()

    def applied(self) -> int | None:
        """Count committed changes."""
        return self._opened.applied()

    def verdicts(self, count: int) -> list[tuple[str, str]]:
        """Add tasks in `processing`; return their ids and callbacks."""
        # Imported through `paths`, because it moves between modules of `app`.
        tokens = paths.CallbackTokens([SECRET])  # type: ignore[attr-defined]
        tasks = seeding.Store(self._database.url).add_processing(count)
        return [(task.id, paths.verdict_request(tokens, task).decode("latin-1")) for task in tasks]

    @property
    def _opened(self) -> paths.Path:
        if self._path is None:
            raise RuntimeError("no path is open")
        return self._path


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind")
    parser.add_argument("url")
    given = parser.parse_args()
    seeder = Seeder(given.kind, given.url)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(seeder, name)(*arguments)), flush=True)


if __name__ == "__main__":
    _main()
