"""Service resumes after frozen replicas and database failures."""

from pathlib import Path

import pytest

from tests.e2e.replicas import few_connections, frozen, silent, stopped
from tests.support.databases.postgres import PostgresServer, is_postgres_given


def test_a_replica_frozen_before_its_commit_blocks_the_others_only_for_seconds(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    outcome = frozen(tmp_path, postgres, limit=30.0)
    assert outcome["recovered_seconds"] < 10
    assert outcome["first_503_of_readyz"] < 5
    assert outcome["woken_replica_accepts_after"] < 10
    # Its transaction was rolled back, and its client got an error.
    assert outcome["frozen_submit"] == 503
    assert outcome["tasks"] == outcome["accepted"]
    assert outcome["lost"] == outcome["doubled"] == 0


def test_with_a_silent_database_every_response_and_the_exit_come_within_ten_seconds(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    outcome = silent(tmp_path, postgres, seconds=12.0)
    assert max(outcome["longest"].values()) < 10, outcome
    assert outcome["stopped_seconds"] < 20


def test_a_stop_while_the_database_is_silent_takes_seconds(postgres: PostgresServer, tmp_path: Path) -> None:
    assert stopped(tmp_path, postgres) < 20


def test_after_a_restart_of_a_server_with_few_connections_every_replica_writes_again(tmp_path: Path) -> None:
    if is_postgres_given():
        pytest.skip("TEST_DATABASE_URL names a server that is not ours to stop")
    outcome = few_connections(tmp_path, limit=30.0)
    assert max(outcome["before"] + outcome["after"]) < 20, outcome
