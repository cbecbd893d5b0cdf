import asyncio
import shutil
from pathlib import Path

import pytest

from benchmarks import scale
from benchmarks.__main__ import run
from benchmarks.databases import SQLITE
from benchmarks.paths import Verdicts
from benchmarks.session import Options
from benchmarks.statements import SMALLEST

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


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


def test_every_statement_runs_on_a_long_history(tmp_path: Path) -> None:
    table = asyncio.run(
        scale.measure(SQLITE, f"sqlite:///{tmp_path / 'long.db'}", [SMALLEST], with_plans=True, times=1)
    )

    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert "Dispatcher.claim, 16" in {row[0] for row in table.rows}
