"""Database outages under load; outages.py is the long run."""

from pathlib import Path

import pytest

from tests.e2e.outages import run
from tests.support.databases.postgres import PostgresServer


@pytest.mark.timeout(180)
def test_a_database_outage_is_reported_clearly_and_loses_nothing(tmp_path: Path) -> None:
    with PostgresServer() as server:
        if not server.is_own:
            pytest.skip("the server in TEST_DATABASE_URL must not be stopped")
        outcome = run(tmp_path, server, orders=200, seconds=2)
    assert outcome.wrong == []
    assert outcome.statuses["succeeded"] == 200
    assert outcome.followed == 200
    assert outcome.answers[503] > 0
    assert (outcome.alive_during, outcome.ready_during) == (200, 503)
