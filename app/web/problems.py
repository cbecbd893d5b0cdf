"""Error responses: `application/problem+json` (RFC 9457)."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match

from app.errors import GatewayError, InvalidRequest, RangeNotSatisfiable
from app.logging import current_request_id
from app.shapes.problem import PROBLEM_MEDIA_TYPE, Problem, problem_shape
from app.web.response import ShapeResponse

_PLAIN_WORDS = {"extra_forbidden": "unknown field", "missing": "is required"}
_MAX_FIELD_ERRORS = 50
_MAX_FIELD_NAME = 200


def internal_error() -> Response:
    """Return the response to an uncaught error, without its details."""
    return from_error(GatewayError("The service failed. Its log has the details under this request_id."))


def from_error(error: GatewayError) -> Response:
    """Return the response to an error."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    return _respond(problem_shape(error), headers)


def field_errors(error: ValidationError | RequestValidationError, *, skip: int = 0) -> list[dict[str, str]]:
    """List invalid fields with messages, limited in number and length.

    Leaves out the first `skip` parts of each field's path.
    """
    return [
        {
            "field": ".".join(str(part) for part in item["loc"][skip:])[:_MAX_FIELD_NAME] or "body",
            "message": _PLAIN_WORDS.get(item["type"], item["msg"].removeprefix("Value error, ")),
        }
        for item in error.errors()[:_MAX_FIELD_ERRORS]
    ]


def install(app: FastAPI) -> None:
    """Make the application respond to all errors with problem details."""
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _internal_error)


# Handlers take `Any` because Starlette's handler type doesn't allow subclasses of `Exception`.
async def _gateway_error(_request: Request, error: Any) -> Response:
    return from_error(error)


async def _validation_error(_request: Request, error: Any) -> Response:
    # Locations begin with "query", "header" or "path".
    return from_error(InvalidRequest("Some parameters are invalid.", field_errors(error, skip=1)))


async def _http_error(request: Request, error: Any) -> Response:
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if status is HTTPStatus.NOT_FOUND:
        detail = "This path does not exist. See /docs for the API."
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = _methods_at(request)
        headers["Allow"] = ", ".join(allowed)
        detail = f"This path only allows {', '.join(allowed)}."
    problem = Problem("about:blank", status.phrase, status, detail, status.name.lower(), current_request_id())
    return _respond(problem, headers)


def _respond(problem: Problem, headers: dict[str, str]) -> Response:
    return ShapeResponse(problem, problem.status, headers, PROBLEM_MEDIA_TYPE)


async def _internal_error(_request: Request, _error: Exception) -> Response:
    return internal_error()


def _methods_at(request: Request) -> list[str]:
    """List all methods at a path; Starlette lists one route's."""
    found: set[str] = set()
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            found.add(method)
    return sorted(found)
