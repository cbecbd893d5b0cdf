"""Event streams across replicas; streams.py is the long run."""

from pathlib import Path

import pytest

from tests.e2e.streams import run
from tests.support.databases.postgres import PostgresServer


@pytest.mark.timeout(180)
def test_every_event_reaches_clients_of_the_other_replica_once_and_in_order(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    account = run(tmp_path, postgres.create_database(), orders=100)
    assert account.wrong == []
    assert account.listeners_cut == 2
    # Queued, submitting, succeeded; also processing, unless the result arrives before the submit's reply.
    assert account.followed == account.resumed == account.events >= 300
