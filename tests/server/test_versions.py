"""The server runs only with tested versions of its dependencies."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from app.server.versions import TESTED, untested_versions
from tests.support.paths import ROOT
from tests.support.servers.gateway_process import run_fresh_app


@pytest.mark.parametrize("package", TESTED)
def test_pyproject_allows_the_tested_versions(package: str) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        stated = [Requirement(text) for text in tomllib.load(file)["project"]["dependencies"]]
    (requirement,) = [one for one in stated if one.name == package]
    (first, last) = TESTED[package]
    for minor in range(100):
        version = f"{first[0]}.{minor}.5"
        assert requirement.specifier.contains(version) is (first[1] <= minor <= last[1]), version


def test_the_installed_versions_are_tested() -> None:
    assert untested_versions() == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "version", "tested"), [("uvicorn", "0.40.0", "0.53 to 0.54"), ("httptools", "1.0.0", "0.7 to 0.9")]
)
def test_an_untested_version_prevents_the_start(tmp_path: Path, package: str, version: str, tested: str) -> None:
    metadata = tmp_path / "packages" / f"{package}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    ended = run_fresh_app(tmp_path, "serve", PYTHONPATH=f"{tmp_path / 'packages'}:{ROOT}")
    assert ended.returncode != 0
    assert ended.stderr.strip() == f"error: {package} {version} was not tested; install {tested}; see requirements.txt"
