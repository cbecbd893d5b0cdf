"""Replicas killed before webhook delivery; webhooks.py is the long run."""

from pathlib import Path

import pytest

from tests.e2e.webhooks import run
from tests.support.databases.postgres import PostgresServer


@pytest.mark.timeout(240)
def test_killed_replicas_and_an_unreliable_receiver_lose_no_webhook(postgres: PostgresServer, tmp_path: Path) -> None:
    tally = run(tmp_path, postgres.create_database(), orders=120, down_seconds=3, pause=0.3)
    assert tally.wrong == []
    assert tally.kills_in_hand >= 1
    assert tally.deliveries["delivered"] == sum(tally.events.values()) >= 120
