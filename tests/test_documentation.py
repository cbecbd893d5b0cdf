"""What the documents say is what the code has."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.cli import cli
from app.domain.task import Status
from app.domain.verdict import ErrorCode
from app.errors import GatewayError
from app.sandbox.directives import ALIASES
from app.settings import Settings
from tests.support.paths import ROOT

DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md"))]
NAMES = {name.upper() for name in Settings.model_fields}


@pytest.fixture(autouse=True)
def _no_settings_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)


def section(document: str, title: str) -> str:
    """Return a section of a page of the reference, without its title."""
    return (REFERENCE / document).read_text().split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def documented_defaults() -> dict[str, str]:
    """Return each setting's default as the page of the settings has it, "" for none."""
    page = (REFERENCE / "settings.md").read_text()
    rows = re.findall(r"^\| `([A-Z_]+)` \| (?:`([^`]+)`|none)[^|]* \| .+ \| .+ \|$", page, re.MULTILINE)
    assert len(rows) == page.count("\n| `"), "a row of the table can't be read"
    assert len(rows) == len(dict(rows)), "a setting stands twice in the table"
    return dict(rows)


def example_defaults() -> dict[str, str]:
    lines = re.findall(r"^# ?([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert len(lines) == len(dict(lines)), "a setting stands twice in .env.example"
    return dict(lines)


@pytest.mark.parametrize("documented", [documented_defaults, example_defaults])
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


def test_compose_publishes_the_port_that_addresses_of_images_name() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    (published,) = services["proxy"]["ports"]
    port = Settings.model_fields["port"].default
    assert published == f"${{PUBLISH:-127.0.0.1:{port}}}:8080"
    assert services["gateway"]["expose"] == [str(port)]


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


def test_the_readme_is_short_and_its_picture_small() -> None:
    readme = (ROOT / "README.md").read_text()
    assert len(readme.splitlines()) <= 150
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", readme)
    assert pictures
    for picture in pictures:
        assert (ROOT / picture).stat().st_size < 200_000


def test_the_generated_pages_are_up_to_date() -> None:
    command = [sys.executable, "-m", "docs.generate", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_services_page_of_errors_stands_alone() -> None:
    page = (ROOT / "app" / "web" / "swagger" / "errors.html").read_text()
    assert set(re.findall(r'href="([^"]*)"', page)) == {"../docs"}
    assert "$B" not in page
    assert "see Tasks" not in page


def test_every_error_is_documented_under_its_status() -> None:
    def with_subclasses(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
        yield kind
        for subclass in kind.__subclasses__():
            yield from with_subclasses(subclass)

    page = (REFERENCE / "errors.md").read_text()
    stated = {
        (int(text[:3]), code)
        for text in page.split("\n## ")[1:]
        for code in re.findall(r"^### (\w+)$", text, re.MULTILINE)
    }
    # Two are the framework's own.
    ours = {(kind.status, kind.code) for kind in with_subclasses(GatewayError)}
    assert stated == ours | {(404, "not_found"), (405, "method_not_allowed")}


def test_every_state_and_failure_of_a_task_is_documented() -> None:
    table = section("tasks.md", "States") + section("tasks.md", "Why a task failed")
    stated = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(set(stated) - {"status"}) == sorted([*Status, *ErrorCode])


def test_every_event_of_the_log_is_documented() -> None:
    page = (REFERENCE / "logs.md").read_text()
    stated = set(re.findall(r"^\| `(\w+)` \| (\w+) \|", page, re.MULTILINE))
    assert stated == {event for file in (ROOT / "app").rglob("*.py") for event in logged_in(file)}


def logged_in(file: Path) -> Iterator[tuple[str, str]]:
    """Yield the events that a module logs, with their levels; the libraries' own lines have other words."""
    tree = ast.parse(file.read_text())
    # Levels that are chosen first: `log = _log.warning if … else _log.info`.
    chosen = [
        level_of(branch)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.IfExp)
        for branch in (node.value.body, node.value.orelse)
        if level_of(branch)
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            event = node.args[0].value
            if not isinstance(event, str) or not re.fullmatch(r"[a-z_]+", event):
                continue
            if level := level_of(node.func):
                yield event, level
            elif isinstance(node.func, ast.Name) and node.func.id == "log":
                yield from ((event, level) for level in chosen)


def level_of(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "_log":
        return {"exception": "error"}.get(node.attr, node.attr)
    return ""


def test_every_command_is_documented() -> None:
    page = (REFERENCE / "cli.md").read_text()

    def commands(group: Any, path: str) -> Iterator[str]:
        for name, command in group.commands.items():
            yield from commands(command, f"{path} {name}") if hasattr(command, "commands") else [f"{path} {name}"]

    all_commands = list(commands(typer.main.get_command(cli), "python -m app"))
    assert all_commands
    assert [command for command in all_commands if f"| `{command}" not in page] == []


def test_every_decision_is_in_the_index() -> None:
    folder = DOCS / "explanation" / "decisions"
    records = sorted(path.name for path in folder.glob("0*.md"))
    index = re.findall(r"^\| \[(\d+)\. (.+?)\]\((.+?)\) \| (.+?) \|", (folder / "README.md").read_text(), re.MULTILINE)
    assert [name for _, _, name, _ in index] == records
    for number, title, name, status in index:
        lines = (folder / name).read_text().splitlines()
        assert lines[0] == f"# {number}. {title}"
        assert lines[2].endswith(f"Status: {status}.")
        assert int(name[:4]) == int(number)


def test_the_sandboxs_directives_are_documented() -> None:
    page = (REFERENCE / "sandbox.md").read_text()
    assert [word for word in ALIASES if f"`{word}`" not in page and f"`{word}=" not in page] == []
