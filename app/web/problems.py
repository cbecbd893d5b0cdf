"""Error responses: `application/problem+json` (RFC 9457)."""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from app.errors import GatewayError, InvalidRequest, RangeNotSatisfiable
from app.shapes.problem import PROBLEM_MEDIA_TYPE, Problem, new_problem, problem_shape
from app.web.response import ShapeResponse
from app.web.suggestions import suggestion

Suggest = Callable[[str], str | None]
"""Returns the name that an unknown one probably means, or None."""

LOGGED_CHARACTERS = 200
"""How much of a problem's detail is logged."""
_MAX_FIELD_ERRORS = 50
_MAX_ERRORS = 1_000
_MAX_FIELD_NAME = 200
_DID_YOU_MEAN = "unknown field; did you mean "


class ProblemResponse(ShapeResponse[Problem]):
    """Sends a problem, which the log repeats."""

    def __init__(self, problem: Problem, headers: dict[str, str]) -> None:
        super().__init__(problem, problem.status, headers, PROBLEM_MEDIA_TYPE)
        self._noted = {"code": problem.code, "detail": problem.detail[:LOGGED_CHARACTERS]}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        # The state is shared by all copies of a request's scope.
        scope.setdefault("state", {})["problem"] = self._noted
        await super().__call__(scope, receive, send)


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
    return ProblemResponse(problem_shape(error), headers)


def invalid_request(
    error: ValidationError | RequestValidationError, suggest: Suggest, *, skip: int = 0
) -> InvalidRequest:
    """Return the error that lists invalid fields with messages.

    Leaves out the first `skip` parts of each field's path. Number and length of fields are limited, because clients
    choose both.
    """
    count = error.error_count() if isinstance(error, ValidationError) else 0
    if count > _MAX_ERRORS:
        # Building the list would block the event loop.
        return InvalidRequest.field("body", f"has {count} invalid fields")
    fields = [_field_error(item, suggest, skip) for item in error.errors()[:_MAX_FIELD_ERRORS]]
    # A misspelled name often causes the other errors, such as a missing field.
    return InvalidRequest(sorted(fields, key=lambda field: not field["message"].startswith(_DID_YOU_MEAN)))


def _field_error(item: Any, suggest: Suggest, skip: int) -> dict[str, str]:
    path = [str(part)[:_MAX_FIELD_NAME] for part in item["loc"][skip:]]
    if item["type"] == "missing":
        message = "is required"
    elif item["type"] == "extra_forbidden":
        meant = suggest(path[-1])
        message = f"{_DID_YOU_MEAN}{meant}?" if meant else "unknown field"
    else:
        message = item["msg"].removeprefix("Value error, ")
    return {"field": ".".join(path)[:_MAX_FIELD_NAME] or "body", "message": message}


def install(app: FastAPI) -> None:
    """Make the application respond to all errors with problem details."""
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _internal_error)


# Handlers take `Any` because Starlette's handler type doesn't allow subclasses of `Exception`.
async def _gateway_error(_request: Request, error: Any) -> Response:
    return from_error(error)


async def _validation_error(request: Request, error: Any) -> Response:
    # Locations begin with "query", "header" or "path".
    return from_error(invalid_request(error, lambda name: suggestion(name, _parameters_of(request)), skip=1))


async def _http_error(request: Request, error: Any) -> Response:
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if status is HTTPStatus.NOT_FOUND:
        detail = "This path does not exist. See /docs for the API."
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = _methods_at(request)
        headers["Allow"] = ", ".join(allowed)
        detail = f"This path only allows {_joined(allowed)}."
    return ProblemResponse(new_problem(status.name.lower(), status.phrase, status, detail), headers)


async def _internal_error(_request: Request, _error: Exception) -> Response:
    return internal_error()


def _parameters_of(request: Request) -> list[str]:
    """List the parameters of a request's route."""
    path = request.app.openapi()["paths"].get(request.scope["route"].path, {})
    return [parameter["name"] for parameter in path.get(request.method.lower(), {}).get("parameters", ())]


def _joined(names: list[str]) -> str:
    """Join names with commas and "and"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _methods_at(request: Request) -> list[str]:
    """List all methods at a path; Starlette lists one route's."""
    found: set[str] = set()
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            found.add(method)
    return sorted(found)
