"""The repository's workflows, hooks and text files."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def tracked() -> list[str]:
    return subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")[
        :-1
    ]


def jobs(workflow: Path) -> dict[str, Any]:
    return dict(yaml.safe_load(workflow.read_text())["jobs"])


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_grants_nothing_by_default_and_each_job_is_bounded(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text())["permissions"] == {}
    for job in jobs(workflow).values():
        assert "permissions" in job
        assert "uses" in job or job["timeout-minutes"] <= 60


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_uses_actions_by_commit(workflow: Path) -> None:
    used = [step["uses"] for job in jobs(workflow).values() for step in job.get("steps", []) if "uses" in step]
    assert used
    assert [action for action in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", action)] == []


def test_an_action_has_one_version_in_all_workflows() -> None:
    text = "".join(workflow.read_text() for workflow in WORKFLOWS)
    used = set(re.findall(r"uses: ([\w-]+/[\w-]+)@([0-9a-f]{40} # v[\d.]+)$", text, re.MULTILINE))
    assert used
    assert len(used) == len(dict(used))


def test_what_workflows_and_the_dev_container_make_is_in_the_makefile() -> None:
    files = [*WORKFLOWS, ROOT / ".ci" / "run", ROOT / ".devcontainer" / "devcontainer.json"]
    made = {target for file in files for target in re.findall(r"\bmake ([a-z-]+)", file.read_text())}
    assert {"image", "lint", "setup", "test", "wheel"} <= made <= TARGETS


def test_the_supported_pythons_are_tested() -> None:
    matrix = jobs(ROOT / ".github" / "workflows" / "ci.yml")["test"]["strategy"]["matrix"]
    oldest = re.search(r'requires-python = ">=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert oldest
    assert matrix["python"][0] == oldest[1]


def test_text_files_have_the_form_that_editorconfig_asks_for() -> None:
    faults = []
    for name in tracked():
        content = (ROOT / name).read_bytes()
        if b"\0" in content:
            continue
        lines = content.decode("utf-8").split("\n")
        if lines[-1] and content:
            faults.append(f"{name}: no newline at the end")
        indents_by_tabs = name in {"Makefile", "deploy/Caddyfile"}
        for number, line in enumerate(lines, 1):
            if line != line.rstrip():
                faults.append(f"{name}:{number}: white space at the end")
            if not indents_by_tabs and not name.endswith(".md") and line.startswith("\t"):
                faults.append(f"{name}:{number}: a tab")
    assert faults == []
