"""Repeated kill -9 under load; crashes.py is the long run."""

from pathlib import Path

import pytest

from tests.e2e.crashes import run
from tests.support.databases.postgres import PostgresServer


@pytest.mark.timeout(180)
def test_killed_replicas_lose_nothing_and_pay_for_nothing_twice(postgres: PostgresServer, tmp_path: Path) -> None:
    books = run(tmp_path, postgres.create_database(), orders=250, pause=0.3)
    assert books.wrong == []
    assert books.kills >= 2
    assert sum(books.statuses.values()) == 250
