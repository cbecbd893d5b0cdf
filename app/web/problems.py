"""Errors as `application/problem+json` (RFC 9457), the same everywhere."""

from http import HTTPStatus

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
    """Answer for a fault of ours; what it was is in the log alone."""
    return from_error(GatewayError("Something went wrong on our side."))


def from_error(error: GatewayError) -> Response:
    """Answer with one of our own errors."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    return _respond(problem_shape(error), headers)


def field_errors(error: ValidationError | RequestValidationError, *, skip: int = 0) -> list[dict[str, str]]:
    """Name each invalid field by its path, without the first `skip` parts, and say what is wrong.

    The number of fields and the length of names are limited: both are the client's to choose.
    """
    return [
        {
            "field": ".".join(str(part) for part in item["loc"][skip:])[:_MAX_FIELD_NAME] or "body",
            "message": _PLAIN_WORDS.get(item["type"], item["msg"].removeprefix("Value error, ")),
        }
        for item in error.errors()[:_MAX_FIELD_ERRORS]
    ]


def install(app: FastAPI) -> None:
    """Make the application answer every error as a problem."""
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _internal_error)


async def _gateway_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, GatewayError)  # noqa: S101 -- for the type checker; registered for this class only
    return from_error(error)


async def _validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- as above
    # The first part of a location says whether it is a query parameter, a header or the path.
    return from_error(InvalidRequest("Some parameters are invalid.", field_errors(error, skip=1)))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- as above
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if status is HTTPStatus.NOT_FOUND:
        detail = "There is nothing at this path; see /docs for the API."
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = _methods_at(request)
        headers["Allow"] = ", ".join(allowed)
        detail = f"This path allows {', '.join(allowed)}."
    problem = Problem("about:blank", status.phrase, status, detail, status.name.lower(), current_request_id())
    return _respond(problem, headers)


def _respond(problem: Problem, headers: dict[str, str]) -> Response:
    return ShapeResponse(problem, problem.status, headers, PROBLEM_MEDIA_TYPE)


async def _internal_error(_request: Request, _error: Exception) -> Response:
    return internal_error()


def _methods_at(request: Request) -> list[str]:
    """List the methods of all routes at a path; the framework names only those of the first."""
    found: set[str] = set()
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            found.add(method)
    return sorted(found)
