"""Replicas whose clocks differ: the database's clock decides."""

import time
from datetime import datetime
from pathlib import Path

from tests.e2e.replicas import SETTINGS
from tests.support.databases.postgres import PostgresServer
from tests.support.paths import ROOT
from tests.support.servers.gateway_process import GatewayProcess
from tests.support.servers.vendor import Vendor

_AHEAD_SECONDS = 1_200
# Python imports this module at startup if it exists.
_SHIFTED = f"""
import time
_time, _time_ns = time.time, time.time_ns
time.time = lambda: _time() + {_AHEAD_SECONDS}
time.time_ns = lambda: _time_ns() + {_AHEAD_SECONDS} * 10**9
"""


def test_a_replica_whose_clock_is_ahead_fails_no_tasks_and_reports_it(
    postgres: PostgresServer, vendor: Vendor, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_SHIFTED)
    environment = {
        **SETTINGS,
        "DATABASE_URL": postgres.create_database(),
        "NANOBANANA_BASE_URL": vendor.url,
        "TASK_TIMEOUT_SECONDS": "900",
    }
    shifted = {**environment, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with (
        GatewayProcess(tmp_path / "ahead", shifted, fresh=True) as ahead,
        GatewayProcess(tmp_path / "right", environment) as right,
    ):
        ready = ahead.client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert "ahead of the database's" in ready.json()["clock"]
        assert "clock_skewed" in ahead.log
        assert right.client.get("/readyz").json()["clock"] == "ok"

        tasks = [one.client.submit()["id"] for one in (ahead, right) * 5]
        times_in_ids = [int(task_id[5:17], 16) for task_id in tasks]
        assert max(times_in_ids) - min(times_in_ids) < 60_000
        vendor.wait_for_submits(10)
        for task_id in tasks:
            right.client.wait_for(task_id, "processing")
        time.sleep(2.5)  # the replica whose clock is ahead checks deadlines each second
        assert [right.client.task(task_id)["status"] for task_id in tasks] == ["processing"] * 10


def test_a_single_replica_uses_the_databases_clock_too(
    postgres: PostgresServer, vendor: Vendor, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(_SHIFTED)
    environment = {
        **SETTINGS,
        "DATABASE_URL": postgres.create_database(),
        "NANOBANANA_BASE_URL": vendor.url,
        "PYTHONPATH": f"{tmp_path}:{ROOT}",
    }
    with GatewayProcess(tmp_path / "ahead", environment, fresh=True) as ahead:
        created = ahead.client.submit()["created_at"]
    assert abs(_seconds(created) - time.time()) < 60


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
