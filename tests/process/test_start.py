"""Commands import only the modules they need."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers.gateway_process import run_app

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("arguments", "unneeded"),
    [
        (["--help"], {"app.settings", "fastapi", "sqlalchemy"}),
        (["--version"], {"app.settings", "fastapi", "sqlalchemy"}),
        (["keys", "list"], {"alembic", "app.main", "app.sandbox", "fastapi", "uvicorn"}),
        (["serve", "--port", "none"], {"app.serve"}),
    ],
)
def test_a_command_imports_what_it_needs(arguments: list[str], unneeded: set[str], tmp_path: Path) -> None:
    assert run_app(tmp_path, "migrate").returncode == 0
    assert unneeded & modules_after(f"run({arguments!r})", tmp_path) == set()


def test_serving_imports_neither_sandbox_nor_migrations_nor_orm(tmp_path: Path) -> None:
    unneeded = {"alembic", "app.sandbox", "app.db.engine.postgresql", "sqlalchemy.orm"}
    assert unneeded & modules_after("import app.serve", tmp_path) == set()


def modules_after(statement: str, directory: Path) -> set[str]:
    """Return the modules in a new process after a statement."""
    program = f"""
import sys
def run(arguments):
    sys.argv[1:] = arguments
    from app.cli import main
    try:
        main()
    except SystemExit:
        pass
{statement}
print("modules:", *sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=directory, capture_output=True, text=True, check=True, timeout=60
    )
    return set(done.stdout.splitlines()[-1].split())
