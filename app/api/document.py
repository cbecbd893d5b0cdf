"""The API's document (OpenAPI): what the framework writes, completed by what every route has in common."""

from typing import Any

from fastapi import FastAPI

from app.api.problems import MEDIA_TYPE, Problem

_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {"schema": {"type": "string"}, "description": "The caller's, if it sent a sane one."},
    "Retry-After": {"schema": {"type": "integer", "minimum": 0}, "description": "Seconds."},
    "WWW-Authenticate": {"schema": {"type": "string"}, "description": "How to prove who calls."},
    "Location": {"schema": {"type": "string"}, "description": "The path of what was made."},
    "Idempotent-Replayed": {"schema": {"type": "string", "enum": ["true"]}, "description": "It was made before."},
    "Preference-Applied": {"schema": {"type": "string"}, "description": "`wait=N`: the service was ready to wait."},
}
# Said of a request before any route looks at it.
_EVERYWHERE = {
    "400": "The request is malformed.",
    "403": "The service does not answer to this host or origin, or not to this caller.",
    "408": "The request arrived too slowly.",
    "413": "The body is too large.",
    "414": "The URL is too long.",
    "431": "The headers are too large.",
    "500": "A fault of the service.",
    "503": "The service can't do this now; try again.",
}
_ALWAYS_SENT = {"401": "WWW-Authenticate", "429": "Retry-After", "503": "Retry-After"}
_METHODS = frozenset({"get", "head", "post", "put", "patch", "delete"})


def install(app: FastAPI) -> None:
    """Make the application describe itself completely."""
    written = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = complete(written())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the framework's own way to do this


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add to every operation the errors and headers that all have, and give each error its media type."""
    components = document.setdefault("components", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    components.setdefault("schemas", {}).update(problem.pop("$defs"), Problem=problem)
    components["headers"] = _HEADERS
    components["responses"] = {
        status: {"description": description, "content": _PROBLEM, "headers": _headers(status)}
        for status, description in _EVERYWHERE.items()
    }
    for path in document["paths"].values():
        for method, operation in path.items():
            if method in _METHODS:
                _complete_operation(operation)
    return document


def _complete_operation(operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    for status, response in responses.items():
        response["headers"] = {**_headers(status), **response.get("headers", {})}
        for media_type, content in list(response.get("content", {}).items()):
            if content.get("schema", {}).get("$ref", "").endswith("/Problem"):
                # The framework gives errors the media type of what the route answers when all is well.
                del response["content"][media_type]
                response["content"] |= _PROBLEM
            elif "itemSchema" in content:
                content.pop("schema", None)
    for status in _EVERYWHERE:
        responses.setdefault(status, {"$ref": f"#/components/responses/{status}"})
    for parameter in operation.get("parameters", []):
        parameter["schema"] = _without_null(parameter["schema"])
        if parameter["in"] == "query" and not parameter.get("required"):
            parameter["schema"] = _or_empty(parameter["schema"])


def _headers(status: str) -> dict[str, Any]:
    found: dict[str, Any] = {"X-Request-ID": {"$ref": "#/components/headers/X-Request-ID"}}
    if name := _ALWAYS_SENT.get(status):
        found[name] = {"required": True, **_HEADERS[name]}
    return found


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is left out or has a text; that it is optional is not said by its schema."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    if not kinds:
        return schema
    rest = {name: value for name, value in schema.items() if name != "anyOf"}
    return {**rest, **kinds[0]} if len(kinds) == 1 else {**rest, "anyOf": kinds}


def _or_empty(schema: dict[str, Any]) -> dict[str, Any]:
    """An empty value of a parameter is as good as none."""
    if "enum" in schema and schema.get("type", "string") == "string":
        return {**schema, "enum": [*schema["enum"], ""]}
    said = {name: value for name, value in schema.items() if name in {"title", "description", "default"}}
    return {**said, "anyOf": [{k: v for k, v in schema.items() if k not in said}, {"const": ""}]}


def header_refs(*names: str) -> dict[str, Any]:
    """Refer to headers of an answer, for routes that document them."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
