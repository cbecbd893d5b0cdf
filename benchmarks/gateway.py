"""The service under measurement: one process, as `python -m app serve` runs it."""

from pathlib import Path

from benchmarks.databases import EmptyDatabase
from benchmarks.processes import ROOT, Server

SECRET = "benchmark-secret-of-some-length"  # noqa: S105 -- guards a database that is deleted right after
HELD_BACK = "1/600"
"""An upstream rate limit that keeps the dispatcher still while something else is measured."""


def start_gateway(
    database: EmptyDatabase, directory: Path, upstream_url: str, *, root: Path = ROOT, **settings: str
) -> Server:
    """Make a gateway in front of an upstream, open on loopback, its log going to a file; settings by their names."""
    environment = {
        "DATA_DIR": str(directory / "data"),
        "DATABASE_URL": database.url,
        "SECRET_KEY": SECRET,
        "NANOBANANA_API_KEY": "benchmark",
        "NANOBANANA_BASE_URL": upstream_url,
        # What it is wherever callbacks can arrive.
        "POLL_AFTER_SECONDS": "60",
        "KEEP_IMAGES": "false",
        "UPSTREAM_RATE_LIMIT": HELD_BACK,
        **settings,
    }
    return Server("app", "serve", directory=directory, environment=environment, ready_path="/readyz", root=root)
