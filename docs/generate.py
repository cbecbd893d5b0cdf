"""Generates reference pages from the code: `python -m docs.generate [--check]`.

`reference/api.md` comes entirely from the OpenAPI document. In other pages, it fills in the allowed values of settings
and the tables of sandbox behavior and hostile files. The service's own error page comes from `reference/errors.md`.
`--check` only reports outdated files.
"""

import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import markdown  # type: ignore[import-untyped]

from app.main import create_app
from app.sandbox.behavior import Behavior
from app.settings import Settings
from tests.support.images.hostile import HOSTILE

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
_ERRORS_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>nanobanana-gateway: errors</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #8882; padding: 0.5rem; }
:target { background: #fd08; }
</style>
</head>
<body>
<p><a href="../docs">API documentation</a></p>
"""
# The service serves these pages of the reference in another form; links to others are removed.
_SERVED = {"api.md": "../docs"}
_FIRST_ERROR = 400
_API_HEAD = """# API

Generated from the OpenAPI document by `make docs`. A running service serves the document at `/openapi.json`, and Swagger
UI at `/docs`.

Send `Authorization: Bearer <API key or browser token>`. While the service runs without keys, no header is needed.
[Access](access.md) lists who may call what, [Errors](errors.md) explains each `code`, and [Limits](limits.md) apply to all routes.
"""


def main(arguments: list[str]) -> int:
    """Write or check the pages; returns the exit code."""
    is_check = arguments == ["--check"]
    stale = []
    for path, generate in PAGES.items():
        before = path.read_text() if path.exists() else ""
        after = generate(before)
        if after != before:
            stale.append(str(path.relative_to(ROOT)))
            if not is_check:
                path.write_text(after)
    if stale and is_check:
        sys.stderr.write(f"not up to date: {', '.join(stale)}; run make docs\n")
    return int(bool(stale) and is_check)


def settings_page(page: str) -> str:
    """Fill in the allowed values and defaults of settings."""

    def row(match: re.Match[str]) -> str:
        name, default, meaning = match[1], match[2], match[4]
        field = Settings.model_fields[name.lower()]
        plain = field.get_default()
        if default.startswith("`") and isinstance(plain, str | int):
            default = f"`{str(plain).lower() if isinstance(plain, bool) else plain}`"
        return f"| `{name}` | {default} | {field.description} | {meaning} |"

    return re.sub(r"^\| `([A-Z_]+)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", row, page, flags=re.MULTILINE)


def sandbox_page(page: str) -> str:
    """Replace the table of sandbox behavior."""
    rows = [
        f"| `{name}` | `{json.dumps(field.get_default())}` | {field.description} |"
        for name, field in Behavior.model_fields.items()
    ]
    return _with_table(page, "| field | default | meaning |\n|---|---|---|\n", rows)


def images_page(page: str) -> str:
    """Replace the table of hostile files."""
    return _with_table(page, "| file | what happens |\n|---|---|\n", [hostile.as_table_row for hostile in HOSTILE])


def _with_table(page: str, head: str, rows: list[str]) -> str:
    before, _, rest = page.partition(head)
    return before + head + "\n".join(rows) + "\n\n" + rest.split("\n\n", 1)[1]


def errors_page(_: str) -> str:
    """Render the error reference with links that work."""

    def link(match: re.Match[str]) -> str:
        name, target = match.groups()
        return f"[{name}]({_SERVED[target]})" if target in _SERVED else name

    text = (REFERENCE / "errors.md").read_text()
    text = re.sub(r"[^.]*, see \[[^]]+\]\([^)]+\)\.", "", text)
    text = re.sub(r"\[([^]]+)\]\(([^)]+)\)", link, text)
    body = markdown.markdown(text, extensions=["fenced_code", "toc"])
    return f"{_ERRORS_HEAD}{body}\n</body>\n</html>\n"


def api_page(_: str) -> str:
    """Write the API page."""
    with tempfile.TemporaryDirectory() as directory:
        settings = Settings(_env_file=None, data_dir=Path(directory))
        document = create_app(settings, upstream_url="http://127.0.0.1:9", upstream_key="key").openapi()
    lines = [_API_HEAD]
    for tag in document["tags"]:
        lines += [f"## {tag['name'].capitalize()}\n", f"{tag['description']}\n"]
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                if tag["name"] in operation["tags"]:
                    lines += _operation(document, method.upper(), path, operation)
    lines += ["## Schemas\n"]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += _schema(name, schema)
    return "\n".join(lines).rstrip() + "\n"


def _operation(document: dict[str, Any], method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"### `{method} {path}`\n"
    summary, description = operation["summary"], _text(operation["description"])
    yield f"{description if description.startswith(summary) else f'{summary}. {description}'}\n"
    if parameters := operation.get("parameters"):
        yield "| parameter | in | type | |\n|---|---|---|---|"
        for parameter in parameters:
            required = "Required. " if parameter["required"] and parameter["in"] != "path" else ""
            schema = _type(parameter["schema"])
            yield f"| `{parameter['name']}` | {parameter['in']} | {schema} | {required}{_text(parameter.get('description'))} |"
        yield ""
    for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
        yield f"Body (`{media_type}`): {_type(content['schema'])}\n"
    yield "| status | response |\n|---|---|"
    errors = []
    for status, given in sorted(operation["responses"].items()):
        name = given.get("$ref", "").rpartition("/")[2]
        response = document["components"]["responses"][name] if name else given
        content = response.get("content", {})
        if int(status) >= _FIRST_ERROR and name:
            errors.append(status)
            continue
        bodies = ", ".join(
            f"`{media_type}`" + (f" {_type(body['schema'])}" if "$ref" in body.get("schema", {}) else "")
            for media_type, body in content.items()
        )
        description = "" if response["description"] == "Successful Response" else _text(response["description"])
        yield f"| {status} | {' '.join(filter(None, [description, bodies])) or 'No content.'} |"
    yield f"| {', '.join(errors)} | [Problem](#problem) |\n"


def _schema(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"### {name}\n"
    if description := schema.get("description"):
        yield f"{_text(description)}\n"
    if "enum" in schema:
        yield f"One of {', '.join(f'`{value}`' for value in schema['enum'])}.\n"
    elif properties := schema.get("properties"):
        required = schema.get("required", [])
        yield "| field | type | |\n|---|---|---|"
        for field, of_field in properties.items():
            note = "" if field in required else "Optional. "
            yield f"| `{field}` | {_type(of_field)} | {note}{_text(of_field.get('description'))} |"
        yield ""
    else:
        yield f"{_type(schema)}\n"


def _type(schema: dict[str, Any]) -> str:
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if choices := schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"):
        return " or ".join(dict.fromkeys(_type(choice) for choice in choices))
    if values := schema.get("enum") or ([schema["const"]] if "const" in schema else []):
        return ", ".join(f"`{value}`" for value in values if value is not None)
    kind: str = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object with {_type(schema['additionalProperties'])} values"
    limits = {
        "minimum": "≥ {}",
        "maximum": "≤ {}",
        "minLength": "≥ {} characters",
        "maxLength": "≤ {} characters",
        "maxItems": "≤ {} entries",
        "maxProperties": "≤ {} pairs",
        "format": "{}",
    }
    given = [text.format(schema[name]) for name, text in limits.items() if name in schema]
    return f"{kind} ({', '.join(given)})" if given else kind


def _text(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


PAGES = {
    REFERENCE / "api.md": api_page,
    REFERENCE / "images.md": images_page,
    REFERENCE / "sandbox.md": sandbox_page,
    REFERENCE / "settings.md": settings_page,
    ROOT / "app" / "web" / "swagger" / "errors.html": errors_page,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
