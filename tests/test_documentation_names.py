"""Names in backticks exist in the code, and docstrings are short.

The names are files, modules, classes, methods, settings, routes and commands.
"""

import ast
import re
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from app.cli import cli
from app.main import create_app
from app.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")] + sorted(
    ROOT.glob("docs/**/*.md")
)
CODE = ("app", "benchmarks", "migrations", "tests")
FOLDERS = (*CODE, "deploy", "docs")
AROUND = (
    "Makefile",
    "Dockerfile",
    "docker-compose.yml",
    "pyproject.toml",
    ".env.example",
    "deploy/*",
    "docs/**/client.*",
)

# Names of others: HTTP's, browsers', tools', and files of the reader.
OTHERS = set(
    "Allow Authorization ETag Host Location Origin Prefer Range Upgrade EventSource ConnectError None Connection "
    "ConsoleRenderer JSONRenderer ProcessorFormatter merge_contextvars limit_concurrency Router(default=…) Field "
    "LimitNOFILE worker_connections proxy_ignore_headers pg_snapshot_xmin is_global pg_dump receiver.py --init --http2".split()
)
# Paths of others: nginx's, systemd's, or where an example puts things.
ELSEWHERE = ("/data", "/opt/", "/var/", "/etc/", "/hooks")

SETTINGS = [name.upper() for name in Settings.model_fields]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
METHODS = "GET|HEAD|POST|PUT|PATCH|DELETE"
MAX_SUMMARY_WORDS = 10


@cache
def words() -> frozenset[str]:
    """Every word of the code and of the files around it, but of no document."""
    files = [
        file for folder in CODE for kind in ("*.py", "*.sql", "*.toml") for file in ROOT.glob(f"{folder}/**/{kind}")
    ]
    files += [file for pattern in AROUND for file in ROOT.glob(pattern)]
    texts = [file.read_text() for file in files if "node_modules" not in file.parts and file != Path(__file__)]
    return frozenset(word for text in texts for word in re.findall(r"[\w-]+|\w+", text))


@cache
def source() -> str:
    return "\n".join(file.read_text() for file in ROOT.glob("app/**/*.py"))


@cache
def members() -> dict[str, set[str]]:
    """The classes of the code by name, each with what it defines; plain functions have nothing."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in (file for folder in CODE for file in ROOT.glob(f"{folder}/**/*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                found[node.name] |= set(defined_in(node))
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found[node.name] |= set()
            elif isinstance(node, ast.Assign):
                found.update((target.id, set()) for target in node.targets if isinstance(target, ast.Name))
    return found


def defined_in(node: ast.ClassDef) -> Iterator[str]:
    for part in ast.walk(node):
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            yield part.name
        elif isinstance(part, ast.AnnAssign | ast.Assign):
            targets = [part.target] if isinstance(part, ast.AnnAssign) else part.targets
            yield from (target.attr for target in targets if isinstance(target, ast.Attribute))
            yield from (target.id for target in targets if isinstance(target, ast.Name))


@cache
def api() -> dict[str, Any]:
    settings = Settings(_env_file=None, data_dir=ROOT / "data")
    return create_app(settings, upstream_url="http://127.0.0.1:9", upstream_key="key").openapi()


def routes() -> list[str]:
    return [f"{method.upper()} {path}" for path, operations in api()["paths"].items() for method in operations]


def is_route(method: str, path: str) -> bool:
    """Whether a route exists, with the same names for the parts of its path; an id may stand for one."""
    path = path.partition("?")[0]
    if path.startswith(ELSEWHERE):
        return True
    if path == "/":
        return True
    # The sandbox's and the vendor's routes, and those that the API's document leaves out, are in the code as written.
    if not path.startswith("/v1/"):
        return f'"{path}' in source() or any(route.split(" ")[1].startswith(path) for route in routes())
    wanted = [re.escape(part) if "{" in part or not has_id(part) else r"\{\w+\}" for part in path.split("/")]
    pattern = re.compile("/".join(wanted) + (".*" if path.endswith("/") else ""))
    return any(
        pattern.fullmatch(route.split(" ")[1])
        for route in routes()
        if not method or route.startswith(f"{method.replace('HEAD', 'GET')} ")
    )


def has_id(part: str) -> bool:
    return bool(re.fullmatch(r"(task|img|upl|whd|key)_.*|x", part))


def is_command(command: list[str]) -> bool:
    """Whether a command line of ours exists, with its options; other programs' do."""
    program, *rest = command
    if program == "make":
        return all("=" in word or word in targets() for word in rest)
    if Path(program).name in {"python", "python3"} and rest[:1] == ["-m"]:
        if rest[1] != "app":
            return rest[1] in {"venv", "http.server", "json.tool"} or is_module(rest[1])
        rest = rest[2:]
    elif Path(program).name != "nanobanana-gateway":
        return True
    return is_ours(typer.main.get_command(cli), rest)


def is_ours(command: Any, arguments: list[str]) -> bool:
    """Whether the words behind `python -m app` are commands and options; values are not judged."""
    for argument in arguments:
        if argument.startswith("--"):
            options = {name for parameter in command.params for name in parameter.opts}
            if argument.partition("=")[0] not in options | {"--help"}:
                return False
        elif commands := getattr(command, "commands", None):
            if argument not in commands:
                return "…" in argument
            command = commands[argument]
    return True


@cache
def targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def is_member(name: str, member: str | None) -> bool:
    if member is None and name in api()["components"]["schemas"]:
        return True
    return name in members() and (member is None or member in members()[name])


# Kinds of names, and whether one exists. The first pattern that fits counts; what fits none is no name of ours.
KINDS: dict[str, Callable[[re.Match[str]], bool]] = {
    rf"(?:({METHODS}) )?(/[\w./{{}}…?=-]*)": lambda found: is_route(found[1] or "", found[2]),
    rf"(?:{'|'.join(FOLDERS)})/[\w./-]*": lambda found: (ROOT / found[0]).exists(),
    r"[\w.-]+\.(?:py|md|toml|yml|conf|service|sql)|Makefile|Dockerfile|\.env\.example": (
        lambda found: (ROOT / found[0]).exists()
    ),
    r"(?:app|tests|benchmarks)(?:\.[a-z_]\w*)+": lambda found: is_module(found[0]),
    r"(?:\S*/)?(?:python3?|nanobanana-gateway|make) .*": lambda found: is_command(shlex.split(found[0])),
    r"(keys|projects) ([a-z]+)\b.*": lambda found: is_ours(typer.main.get_command(cli), [found[1], found[2]]),
    r"([A-Z]\w*[a-z]\w*)(?:\.(\w+))?(?:[\[(].*[\])])?": lambda found: is_member(found[1], found[2]),
    r"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=.*)?": lambda found: found[1] in words() | set(SETTINGS),
    r"--([a-z-]+)": lambda found: bool({found[0], found[1]} & words()),
    r"[a-z]\w*(?:_\w+|[A-Z]\w*)(?:\.\w+)*|[a-z]+\.[a-z_]+": (
        lambda found: has_id(found[0]) or words().issuperset(found[0].split("."))
    ),
}


def is_known(span: str) -> bool:
    """Whether what a span names exists; true of what is no name of ours as far as can be told."""
    matches = ((re.fullmatch(pattern, span), exists) for pattern, exists in KINDS.items())
    return span in OTHERS or next((exists(match) for match, exists in matches if match), True)


def docstrings(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield text


def names(document: Path) -> Iterator[str]:
    text = document.read_text()
    yield from SPAN.findall(FENCE.sub("", text))
    for language, block in FENCE.findall(text):
        if language in {"console", "sh"}:
            for line in re.sub(r"\\\n\s*", " ", block).splitlines():
                command = re.sub(r"^[$#] (?:[A-Z_]+=\S+ )*|\s+#.*$", "", line)
                if re.match(r"(\S*/)?(python3?|nanobanana-gateway|make) ", command):
                    yield command.partition(" && ")[0].partition(" > ")[0]
                yield from re.findall(r"\$B(/[\w./{}…?=-]*)", line)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_what_a_document_names_exists(document: Path) -> None:
    assert sorted({name for name in names(document) if not is_known(name)}) == []


@pytest.mark.parametrize("file", sorted(ROOT.glob("app/**/*.py")), ids=lambda file: str(file.relative_to(ROOT)))
def test_docstrings_begin_with_a_short_sentence(file: Path) -> None:
    first_lines = [text.partition("\n")[0] for text in docstrings(file)]
    assert [line for line in first_lines if len(line.split()) > MAX_SUMMARY_WORDS or not line.endswith(".")] == []


@pytest.mark.parametrize(
    "name",
    [
        "app/nothing.py",
        "app.nothing",
        "Nothing",
        "Dispatcher.nothing",
        "NOTHING_AT_ALL",
        "nothing_at_all",
        "GET /v1/nothing",
        "PUT /v1/tasks",
        "GET /v1/tasks/{id}",
        "/v1/nothing",
        "make nothing",
        "python -m app nothing",
        "python -m app keys nothing",
        "python -m app serve --nothing",
        "python -m benchmarks.nothing",
        "keys nothing",
        "nothing.md",
    ],
)
def test_what_does_not_exist_is_found(name: str) -> None:
    assert not is_known(name)
