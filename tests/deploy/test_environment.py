"""`make setup` creates and updates .venv, or explains its failure."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Checkout:
    """A directory with our Makefile, small packages and lock files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        shutil.copy(ROOT / "Makefile", path)
        shutil.copytree(ROOT / "scripts", path / "scripts")
        (path / "wheels").mkdir()
        self.lock_runtime("1")

    def lock_runtime(self, version: str) -> None:
        """Release a package version and pin it in lock files."""
        runtime = self._wheel("runtime_package", version)
        (self.path / "requirements.txt").write_text(runtime)
        (self.path / "requirements-dev.txt").write_text(runtime + self._wheel("development_package", "1"))

    def _wheel(self, name: str, version: str) -> str:
        file = self.path / "wheels" / f"{name}-{version}-py3-none-any.whl"
        info = f"{name}-{version}.dist-info"
        with zipfile.ZipFile(file, "w") as wheel:
            wheel.writestr(f"{name}.py", f"version = {version!r}\n")
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        return f"{name}=={version} --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n"

    def make(self, target: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["make", "--no-print-directory", target],
            cwd=self.path,
            env=self.environment(**environment),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def interrupt(self, kind: str, lock_name: str) -> None:
        """Kill an installation, blocked midway by a named pipe."""
        lock = self.path / lock_name
        content = lock.read_text()
        lock.unlink()
        os.mkfifo(lock)
        process = subprocess.Popen(
            ["sh", "scripts/environment.sh", kind],
            cwd=self.path,
            env=self.environment(),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert any(line.startswith("Installing") for line in process.stdout)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        lock.unlink()
        lock.write_text(content)

    def environment(self, **environment: str) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON", "MAKE"))}
        pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.path / "wheels")}
        return {**ours, "PATH": f"{Path(sys.base_prefix) / 'bin'}:{ours['PATH']}", **pip, **environment}

    def import_of(self, module: str) -> str:
        """Return a package's version in .venv; empty if not installed."""
        command = [".venv/bin/python", "-c", f"import {module}; print({module}.version)"]
        return subprocess.run(command, cwd=self.path, capture_output=True, text=True, check=False).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def says(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return a successful run's output."""
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def error(done: subprocess.CompletedProcess[str]) -> str:
    """Return a failed run's only error line, except make's own."""
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_each_step_is_named_and_the_next_run_has_none(checkout: Checkout) -> None:
    created, installed, ready = says(checkout.make("runtime"))
    assert created.startswith("Creating .venv with Python 3.")
    assert installed == "Installing the packages of requirements.txt"
    assert ready == ".venv is ready"
    assert checkout.import_of("runtime_package") == "1"
    assert checkout.import_of("development_package") == ""
    assert says(checkout.make("runtime")) == []


def test_development_is_added_to_a_runtime_environment_and_contains_it(checkout: Checkout) -> None:
    says(checkout.make("runtime"))
    assert says(checkout.make("setup")) == ["Installing the packages of requirements-dev.txt", ".venv is ready"]
    assert checkout.import_of("development_package") == "1"
    assert says(checkout.make("setup")) == says(checkout.make("runtime")) == []


def test_a_changed_lock_is_installed(checkout: Checkout) -> None:
    says(checkout.make("setup"))
    checkout.lock_runtime("2")
    assert says(checkout.make("runtime")) == ["Installing the packages of requirements.txt", ".venv is ready"]
    assert checkout.import_of("runtime_package") == "2"
    assert says(checkout.make("setup")) == ["Installing the packages of requirements-dev.txt", ".venv is ready"]


def test_an_interrupted_environment_is_built_again(checkout: Checkout) -> None:
    checkout.interrupt("runtime", "requirements.txt")
    (checkout.path / ".venv" / "leftover").touch()
    assert says(checkout.make("runtime"))[0].startswith("Creating .venv")
    assert not (checkout.path / ".venv" / "leftover").exists()
    assert checkout.import_of("runtime_package") == "1"


def test_an_interrupted_addition_leaves_the_runtime_usable(checkout: Checkout) -> None:
    says(checkout.make("runtime"))
    checkout.interrupt("development", "requirements-dev.txt")
    assert says(checkout.make("runtime")) == []
    assert says(checkout.make("setup"))[0].startswith("Creating .venv")
    assert checkout.import_of("development_package") == "1"


def test_a_moved_environment_is_built_again(checkout: Checkout, tmp_path: Path) -> None:
    says(checkout.make("runtime"))
    moved = tmp_path.with_name(tmp_path.name + "-moved")
    checkout.path.rename(moved)
    checkout.path = moved
    assert says(checkout.make("runtime"))[0].startswith("Creating .venv")


def test_a_failed_installation_is_explained_and_not_taken_for_ready(checkout: Checkout) -> None:
    for wheel in (checkout.path / "wheels").iterdir():
        wheel.unlink()
    assert "requirement runtime_package==1 (from versions: none)" in error(checkout.make("runtime"))
    checkout.lock_runtime("1")
    assert says(checkout.make("runtime"))[0].startswith("Creating .venv")


def test_a_missing_network_is_named(checkout: Checkout) -> None:
    nowhere = {
        "PIP_NO_INDEX": "0",
        "PIP_FIND_LINKS": "",
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "1",
    }
    said = error(checkout.make("runtime", **nowhere))
    assert said.startswith("error: the package index cannot be reached; check the network")


def test_an_old_python_is_named(checkout: Checkout) -> None:
    python = checkout.path / "python3"
    program = "import sys; sys.version_info = (3, 9, 2, 'final', 0); exec(sys.argv[1])"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{program}" "$2"\n')
    python.chmod(0o755)
    said = error(checkout.make("runtime", PYTHON=str(python)))
    assert said.startswith(f"error: {python} is Python 3.9; 3.11 or newer is needed")


def test_a_missing_python_is_named(checkout: Checkout) -> None:
    said = error(checkout.make("setup", PYTHON="python3.99"))
    assert said.startswith("error: python3.99 not found; Python 3.11 or newer is needed")


def test_a_missing_venv_module_is_named(checkout: Checkout) -> None:
    modules = checkout.path / "modules"
    modules.mkdir()
    (modules / "ensurepip.py").write_text("raise ImportError\n")
    said = error(checkout.make("runtime", PYTHONPATH=str(modules)))
    assert said.endswith(f"apt install python3.{sys.version_info.minor}-venv")


def test_the_development_lock_contains_the_runtime_lock() -> None:
    def pins(name: str) -> set[str]:
        return {line.split(" ;")[0] for line in (ROOT / name).read_text().splitlines() if line[:1].isalnum()}

    runtime = pins("requirements.txt")
    assert runtime
    assert {pin.rstrip(" \\") for pin in runtime} <= {pin.rstrip(" \\") for pin in pins("requirements-dev.txt")}
