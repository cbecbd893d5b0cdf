"""Starts the service to be measured."""

from pathlib import Path

from benchmarks.databases import EmptyDatabase
from benchmarks.processes import ROOT, Server

SECRET = "benchmark-secret-of-some-length"  # noqa: S105 -- guards a database that is deleted right after
HELD_BACK = "1/600"
"""A rate limit that effectively pauses the dispatcher."""


def start_gateway(
    database: EmptyDatabase, directory: Path, upstream_url: str, *, root: Path = ROOT, **settings: str
) -> Server:
    """Create a gateway without keys, logging to a file."""
    environment = {
        "DATA_DIR": str(directory / "data"),
        "DATABASE_URL": database.url,
        "SECRET_KEY": SECRET,
        "NANOBANANA_API_KEY": "benchmark",
        "NANOBANANA_BASE_URL": upstream_url,
        # The default wherever callbacks can arrive.
        "POLL_AFTER_SECONDS": "60",
        "KEEP_IMAGES": "false",
        "UPSTREAM_RATE_LIMIT": HELD_BACK,
        **settings,
    }
    return Server("app", "serve", directory=directory, environment=environment, ready_path="/readyz", root=root)
