"""Completes the OpenAPI document that FastAPI generates."""

from copy import deepcopy
from inspect import cleandoc
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, TypeAdapter

from app.shapes.problem import PROBLEM_MEDIA_TYPE, Problem

REF = "#/components/schemas/{model}"
DESCRIPTION = (
    "Submit a task with `POST /v1/tasks`, then wait for the result, stream events, poll or receive a webhook. "
    "Errors are problem details (RFC 9457). Every response has an `X-Request-ID`. Empty query parameters count as unset."
)
TAGS = [
    {"name": "tasks", "description": "Submit image tasks and get their results."},
    {"name": "events", "description": "Server-sent events of one task, or of all tasks of a project."},
    {"name": "images", "description": "Result images. The id in the URL is the only credential."},
    {"name": "uploads", "description": "Input images for tasks. The id in the URL is the only credential."},
    {"name": "webhooks", "description": "The secret that signs webhooks, and the log of deliveries."},
    {"name": "tokens", "description": "Short-lived tokens for web pages."},
    {"name": "callbacks", "description": "Called by the upstream, not by clients."},
    {"name": "operations", "description": "Health of the service."},
]


def _header(description: str, *, required: bool = False, **schema: Any) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": {"type": "string", **schema}}


_HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": _header("The request's `X-Request-ID`, or a new ID."),
    "Retry-After": _header("Seconds to wait before trying again.", required=True, type="integer", minimum=0),
    "WWW-Authenticate": _header("The authentication scheme, `Bearer`.", required=True),
    "Location": _header("Path of the created resource."),
    "Idempotent-Replayed": _header("Present if an earlier request with the same key created the task.", enum=["true"]),
    "Preference-Applied": _header("`wait=N`, if the request asked to wait."),
    "Content-Range": _header("The range sent, or the total size."),
}
# Any route can respond with these statuses.
_EVERYWHERE = (400, 403, 408, 413, 414, 431, 500, 503)
# Component and description of each error.
_PROBLEMS = {
    400: ("MalformedRequest", "The request is malformed."),
    403: ("Forbidden", "The host, origin or caller is not allowed."),
    408: ("RequestTimeout", "The request arrived too slowly."),
    413: ("BodyTooLarge", "The body is too large."),
    414: ("UrlTooLong", "The URL is too long."),
    431: ("HeadersTooLarge", "The headers are too large."),
    500: ("InternalError", "The service failed. Its log has the details."),
    503: ("ServiceUnavailable", "The service can't do this right now. Try again."),
    401: ("Unauthorized", "No valid API key or browser token was sent."),
    404: ("NotFound", "The resource doesn't exist or belongs to another caller."),
    409: ("Conflict", "The current state does not allow this."),
    410: ("Gone", "The resource was deleted or has expired."),
    415: ("UnsupportedMediaType", "The body's `Content-Type` is not supported."),
    416: ("RangeNotSatisfiable", "The requested range is beyond the end of the image."),
    422: ("InvalidRequest", "Fields or parameters are invalid; `errors` lists them."),
    429: ("TooManyRequests", "A limit has been reached. Try again later."),
}
_ERROR_HEADERS = {401: ("WWW-Authenticate",), 416: ("Content-Range",), 429: ("Retry-After",), 503: ("Retry-After",)}
_FIRST_ERROR = 400


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Declare a route's error responses; `complete` fills them in."""
    return {status: {} for status in statuses}


def headers(*names: str) -> dict[str, Any]:
    """Document response headers."""
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def json_body(
    model: type[BaseModel], *, examples: dict[str, Any], schema: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Document a body read with `read_model`, for `openapi_extra`."""
    content = {
        "schema": schema or model.model_json_schema(ref_template=REF),
        "examples": {name: {"value": value} for name, value in examples.items()},
    }
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def install(app: FastAPI) -> None:
    """Make the application complete its OpenAPI document."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = complete(generate())
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def for_open_service(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with authentication optional."""
    document = deepcopy(document)
    for path in document["paths"].values():
        for operation in path.values():
            if operation["security"]:
                operation["security"].append({})
    return document


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """Add common errors, headers, and components for request bodies."""
    components = document["components"]
    _add_schema(components, TypeAdapter(Problem).json_schema(ref_template=REF))
    components["headers"] = _HEADERS
    components["responses"] = {name: _problem(status, text) for status, (name, text) in _PROBLEMS.items()}
    for path in [*document["paths"].values(), *document.get("webhooks", {}).values()]:
        for operation in path.values():
            _complete_operation(operation, components)
    for path in document["paths"].values():
        for operation in path.values():
            _complete_responses(operation["responses"])
    return document


def _problem(status: int, description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": REF.format(model="Problem")}}},
        "headers": _error_headers(status),
    }


def _error_headers(status: int) -> dict[str, Any]:
    return headers("X-Request-ID", *_ERROR_HEADERS.get(status, ()))


def _complete_operation(operation: dict[str, Any], components: dict[str, Any]) -> None:
    # The docstring's first line is the summary, and the rest is the description.
    summary, _, rest = cleandoc(operation["description"]).partition("\n")
    operation["summary"] = summary.rstrip(".")
    operation["description"] = " ".join(rest.split()) or summary
    operation.setdefault("security", [])
    for parameter in operation.get("parameters", []):
        parameter["schema"] = _parameter_schema(parameter["schema"])
    for content in operation.get("requestBody", {}).get("content", {}).values():
        content["schema"] = _add_schema(components, content["schema"])


def _complete_responses(responses: dict[str, Any]) -> None:
    for status in _EVERYWHERE:
        responses.setdefault(str(status), {})
    for key, response in responses.items():
        status = int(key)
        if status >= _FIRST_ERROR and "content" not in response:
            responses[key] = {"$ref": f"#/components/responses/{_PROBLEMS[status][0]}"}
        else:
            response["headers"] = {**_error_headers(status), **response.get("headers", {})}


def _add_schema(components: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Move a titled schema into the components; returns a reference."""
    if "title" not in schema:
        return schema
    schemas = components.setdefault("schemas", {})
    schemas.update(schema.pop("$defs", {}))
    schemas[schema["title"]] = schema
    return {"$ref": REF.format(model=schema["title"])}


def _parameter_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter's schema without null, title and description."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name not in {"anyOf", "title", "description"}}
    if not kinds:
        return rest
    return {**rest, **kinds[0]} if len(kinds) == 1 else {**rest, "anyOf": kinds}
