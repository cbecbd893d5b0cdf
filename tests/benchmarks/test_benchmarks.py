import asyncio
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import growth, scale
from benchmarks.__main__ import run
from benchmarks.databases import SQLITE
from benchmarks.latency import BACK, OUTWARD
from benchmarks.paths import Verdicts
from benchmarks.processes import ROOT
from benchmarks.session import Options
from benchmarks.statements import SMALLEST

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
needs_git = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(), reason="no Git checkout, so no other revision"
)


@pytest.mark.parametrize("generator", ["bundled", pytest.param("wrk", marks=needs_wrk)])
def test_a_benchmark_fills_its_table_without_a_failed_request(
    generator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Options(databases=(SQLITE,), rounds=1, seconds=0.2, connections=4, generator=generator)

    (table,) = run(["verdicts"], options, tmp_path)

    assert table.failures == []
    assert [row[0] for row in table.rows] == ["no-op `GET`", Verdicts.title]
    assert {row[-1] for row in table.rows} == {"0"}
    assert table.markdown() in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@needs_git
def test_another_revision_is_measured_beside_this_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = Options(databases=(SQLITE,), rounds=1, seconds=0.2, connections=4, generator="bundled", against="HEAD")

    throughput, latency = run(["verdicts", "latency"], options, tmp_path)

    assert throughput.failures == []
    (row,) = throughput.rows
    numbers = dict(zip(throughput.columns, row, strict=True))
    assert (row[0], row[-1]) == (Verdicts.title, "0")
    assert 0.1 < float(numbers["CPU ms/request now"]) / float(row[3]) < 10
    assert [row[:2] for row in latency.rows] == [(OUTWARD, SQLITE), (BACK, SQLITE)]
    assert all(float(cell) > 0 for row in latency.rows for cell in row[2:])
    assert throughput.markdown() in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in _git("worktree", "list")


@needs_git
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_run_that_is_ended_leaves_no_worktree(end: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", "--only", "reads", "--database", "sqlite", "--against", "HEAD"]
    with subprocess.Popen(
        [*command, "--directory", str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        # The first line is printed once the worktree and the servers exist.
        assert process.stdout.readline()
        assert str(tmp_path) in _git("worktree", "list")
        process.send_signal(end)
        process.communicate()

    assert process.returncode == 130
    assert str(tmp_path) not in _git("worktree", "list")
    assert list(tmp_path.iterdir()) == []


def test_every_statement_runs_on_a_long_history(tmp_path: Path) -> None:
    table = asyncio.run(
        scale.measure(SQLITE, f"sqlite:///{tmp_path / 'long.db'}", [SMALLEST], with_plans=True, times=1)
    )

    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert "Dispatcher.claim, 4" in {row[0] for row in table.rows}


def test_finished_tasks_are_weighed_and_deleted_beside_submits(tmp_path: Path) -> None:
    sizes, retention = asyncio.run(
        growth.measure(SQLITE, f"sqlite:///{tmp_path / 'growing.db'}", 400, calm_seconds=0.1)
    )

    assert {"tasks", "events", "images", "webhook_deliveries", "callbacks", "blobs", "all"} <= {
        row[0] for row in sizes.rows
    }
    assert not retention.failures


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout
