"""Problem details (RFC 9457): the shape of errors."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from app.errors import GatewayError, InvalidRequest
from app.logging import current_request_id
from app.shapes.base import Omitted, unset

PROBLEM_MEDIA_TYPE = "application/problem+json"
_path_prefix: ContextVar[str] = ContextVar("path_prefix", default="")


@dataclass(slots=True)
class FieldProblem:
    """An invalid field or parameter."""

    field: Annotated[str, Field(examples=["aspectRatio"])]
    message: Annotated[str, Field(examples=["unknown field; did you mean aspect_ratio?"])]


@dataclass(slots=True)
class Problem:
    """An error (RFC 9457)."""

    type: Annotated[str, Field(description="Where the error is explained.", examples=["/docs/errors#invalid_request"])]
    title: str
    status: Annotated[int, Field(description="HTTP status of the response.")]
    detail: Annotated[str, Field(description="What is wrong, for people. The text may change.")]
    code: Annotated[str, Field(description="What is wrong, for programs. Codes are stable.")]
    request_id: Annotated[str, Field(description="ID of the request in the service's log.")]
    errors: Annotated[list[FieldProblem] | Omitted, Field(description="The invalid fields, with status 422.")] = field(
        default_factory=unset
    )


def problem_shape(error: GatewayError) -> Problem:
    """Return the shape of an error in the current request."""
    problem = new_problem(error.code, error.title, error.status, error.detail)
    if isinstance(error, InvalidRequest):
        problem.errors = [FieldProblem(**one) for one in error.errors]
    return problem


def bind_path_prefix(prefix: str) -> None:
    """Set the public path prefix of the current request."""
    _path_prefix.set(prefix)


def new_problem(code: str, title: str, status: int, detail: str) -> Problem:
    """Return a problem of the current request."""
    return Problem(f"{_path_prefix.get()}/docs/errors#{code}", title, status, detail, code, current_request_id())
