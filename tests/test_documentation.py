"""What the documents say is what the code has."""

import importlib.metadata
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.domain.task import Status
from app.domain.verdict import ErrorCode
from app.errors import GatewayError
from app.main import create_app
from app.sandbox.behaviour import Behaviour
from app.sandbox.directives import ALIASES
from app.settings import Settings
from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text()
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
NAMES = {name.upper() for name in Settings.model_fields}


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def section(title: str) -> str:
    """Return a section of the README, without its title."""
    return README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def readme_defaults() -> dict[str, str]:
    """Return each setting's default as the README's table has it, "" for none."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| (?:`([^`]+)`|none)[^|]* \| .+ \|$", section("Settings"), re.MULTILINE)
    assert len(rows) == section("Settings").count("\n| `"), "a row of the table can't be read"
    assert len(rows) == len(dict(rows)), "a setting stands twice in the table"
    return dict(rows)


def example_defaults() -> dict[str, str]:
    lines = re.findall(r"^# ?([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert len(lines) == len(dict(lines)), "a setting stands twice in .env.example"
    return dict(lines)


@pytest.mark.parametrize("documented", [readme_defaults, example_defaults])
def test_the_settings_and_their_defaults_are_documented(documented: Any) -> None:
    stated = documented()
    assert set(stated) == NAMES
    defaults = Settings(_env_file=None)
    # The text is read as the environment would be, so that 20/10 is a rate and 30 a number of seconds.
    given = {name.lower(): text for name, text in stated.items() if text}
    assert Settings(_env_file=None, **given) == defaults
    unset = {name.lower() for name, text in stated.items() if not text}
    assert {name for name in Settings.model_fields if getattr(defaults, name) in (None, [])} == unset


def test_env_example_sets_nothing() -> None:
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_compose_sets_only_settings_that_exist() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    ours = [service for service in services.values() if "build" in service]
    assert ours
    for service in ours:
        ours_too = {name for name in service["environment"] if not name.startswith("AWS_")}
        assert ours_too <= NAMES
        grace = int(service["stop_grace_period"].removesuffix("s"))
        assert grace >= Settings(_env_file=None).upstream_timeout_seconds + 15
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith(".") or (ROOT / source).exists(), volume
    assert "ports" not in services["postgres"]


def test_the_image_sets_only_settings_that_exist() -> None:
    block = re.search(r"^ENV PATH=(?:.*\\\n)+.*$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert block
    names = set(re.findall(r"\b([A-Z_]+)=", block[0]))
    assert names - {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"} <= NAMES


def test_the_image_pins_all_that_its_build_backend_needs() -> None:
    pattern = re.search(r"~ /\^\(([^)]+)\)==/", (ROOT / "Dockerfile").read_text())
    assert pattern
    assert set(pattern[1].split("|")) == needed_by("hatchling")


def needed_by(distribution: str) -> set[str]:
    """Return the names of a distribution and of all that it needs here."""
    found: set[str] = set()
    waiting = [distribution]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            requirements = [Requirement(text) for text in importlib.metadata.requires(name) or []]
            waiting += [r.name for r in requirements if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def links() -> Iterator[tuple[Path, str]]:
    for document in DOCUMENTS:
        prose = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", prose):
            if not re.match(r"[a-z]+:", target):
                yield document, target


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as they are commonly made."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    found = list(links())
    assert found
    for document, target in found:
        path, _, anchor = target.partition("#")
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), f"{document.name}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{document.name}: {target}"


def test_every_route_is_in_the_readme(tmp_path: Path) -> None:
    settings = Settings(_env_file=None, data_dir=tmp_path)
    document = create_app(settings, upstream_url="http://127.0.0.1:9", upstream_key="key").openapi()
    routes = {f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations}
    plain = re.sub(r"\{\w+\}", "{}", README)
    assert [route for route in sorted(routes) if f"{re.sub(r'{[^}]+}', '{}', route)}`" not in plain] == []


def test_every_error_is_in_the_readme() -> None:
    def with_subclasses(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
        yield kind
        for subclass in kind.__subclasses__():
            yield from with_subclasses(subclass)

    table = section("API by example").split("### Errors", 1)[1]
    rows = re.findall(r"^\| ([\d, ]+) \| (`[^|]+`) \|", table, re.MULTILINE)
    stated = {
        (int(status), code) for numbers, codes in rows for status in numbers.split(",") for code in codes.split(", ")
    }
    assert {(kind.status, f"`{kind.code}`") for kind in with_subclasses(GatewayError)} <= stated


def test_every_state_and_failure_of_a_task_is_in_the_readme() -> None:
    table = section("API by example").split("### Task states", 1)[1].split("### Errors", 1)[0]
    stated = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) - {"status"}
    assert stated == {*Status, *ErrorCode}


def test_the_sandbox_is_documented_with_its_defaults() -> None:
    text = (ROOT / "docs" / "sandbox.md").read_text()
    table = text.split("\n## Behaviour\n", 1)[1].split("\n## ", 1)[0]
    stated = dict(re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", table, re.MULTILINE))
    assert set(stated) == set(Behaviour.model_fields)
    defaults = ", ".join(f'"{name}": {value}' for name, value in stated.items())
    assert Behaviour.from_json(f"{{{defaults}}}") == Behaviour()
    assert [word for word in ALIASES if f"`{word}`" not in text and f"`{word}=" not in text] == []


def test_documents_name_no_file_that_is_not_there() -> None:
    named = {
        (document.name, path)
        for document in DOCUMENTS
        for path in re.findall(r"`((?:app|tests|docs|deploy|migrations)/[\w./-]+)`", document.read_text())
    }
    assert [(name, path) for name, path in sorted(named) if not (ROOT / path).exists()] == []
