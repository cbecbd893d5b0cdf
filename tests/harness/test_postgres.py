"""The tests' PostgreSQL stops with the tests, even when killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from sqlalchemy.engine import make_url

from tests.support.paths import ROOT
from tests.support.waiting import until

STARTER = """
from tests.support.databases.postgres import PostgresServer
with PostgresServer() as server:
    print(server.pid, server.create_database(), flush=True)
    input()
"""


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_the_server_stops_and_its_files_go_however_its_starter_ends(end: signal.Signals) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TEST_DATABASE_URL"}
    with subprocess.Popen(
        [sys.executable, "-c", STARTER],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as starter:
        assert starter.stdout is not None
        pid, url = starter.stdout.readline().split()
        data = Path(str(make_url(url).query["host"]))
        assert (data / "PG_VERSION").exists()
        starter.send_signal(end)
    until(lambda: not data.parent.exists(), seconds=60, what="the removal of the server's files")
    assert not psutil.pid_exists(int(pid))
