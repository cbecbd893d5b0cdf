"""Errors as `application/problem+json` (RFC 9457), the same everywhere."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Match

from app.errors import GatewayError, InvalidRequest, RangeNotSatisfiable
from app.logs import current_request_id

_PLAIN_WORDS = {"extra_forbidden": "is no known field", "missing": "is required"}
MEDIA_TYPE = "application/problem+json"
_MAX_FIELD_ERRORS = 50
_MAX_FIELD_NAME = 200


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str = Field(examples=["num_images"])
    message: str = Field(examples=["Input should be less than or equal to 4"])


class Problem(BaseModel):
    """An error (RFC 9457). `code` is stable and meant for programs."""

    type: str = Field(examples=["about:blank"])
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldProblem] | None = Field(None, description="With 422: each field that is wrong.")


def problem_body(status: int, code: str, title: str, detail: str) -> dict[str, Any]:
    """Write a `Problem`; the request id is the one that the request's middleware bound."""
    return {
        "type": "about:blank",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": current_request_id(),
    }


def problem_response(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    errors: list[dict[str, str]] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """Build the answer."""
    body = problem_body(status, code, title, detail)
    if errors is not None:
        body["errors"] = errors
    return JSONResponse(body, status_code=status, headers=headers, media_type=MEDIA_TYPE)


def internal_error() -> JSONResponse:
    """Answer for a fault of ours; what it was is in the log alone."""
    return problem_response(500, "internal_error", "Internal error", "Something went wrong on our side.")


def from_error(error: GatewayError) -> JSONResponse:
    """Answer with one of our own errors."""
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RangeNotSatisfiable):
        headers["Content-Range"] = f"bytes */{error.size}"
    errors = error.errors if isinstance(error, InvalidRequest) else None
    return problem_response(error.status, error.code, error.title, error.detail, errors=errors, headers=headers)


def field_errors(error: ValidationError | RequestValidationError, *, skip: int = 0) -> list[dict[str, str]]:
    """Name each wrong field by its path, without its first `skip` parts, and say what is wrong.

    A body may have more wrong fields than anybody reads; the answer names the first ones, and no name at any length.
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
    return from_error(InvalidRequest("Some parameters are wrong.", field_errors(error, skip=1)))


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 -- as above
    status = HTTPStatus(error.status_code)
    headers = dict(error.headers or {})
    detail = str(error.detail)
    if status is HTTPStatus.NOT_FOUND:
        detail = "There is nothing at this path; /docs lists what there is."
    elif status is HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = _methods_at(request)
        headers["Allow"] = ", ".join(allowed)
        detail = f"This path answers to {', '.join(allowed)}."
    return problem_response(status, status.name.lower(), status.phrase, detail, headers=headers)


async def _internal_error(_request: Request, _error: Exception) -> Response:
    return internal_error()


def _methods_at(request: Request) -> list[str]:
    """List the methods of all routes at a path; the framework tells only those of the first."""
    found: set[str] = set()
    for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
        scope = {**request.scope, "method": method}
        if any(route.matches(scope)[0] is Match.FULL for route in request.app.routes):
            found.add(method)
    return sorted(found)
