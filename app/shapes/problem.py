"""Problem details (RFC 9457): the shape of errors."""

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from app.errors import GatewayError, InvalidRequest
from app.logging import current_request_id
from app.shapes.base import Omitted, unset

PROBLEM_MEDIA_TYPE = "application/problem+json"


@dataclass(slots=True)
class FieldProblem:
    """An invalid field or parameter."""

    field: Annotated[str, Field(examples=["num_images"])]
    message: Annotated[str, Field(examples=["Input should be less than or equal to 4"])]


@dataclass(slots=True)
class Problem:
    """An error (RFC 9457)."""

    type: Annotated[str, Field(examples=["about:blank"])]
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
    problem = Problem("about:blank", error.title, error.status, error.detail, error.code, current_request_id())
    if isinstance(error, InvalidRequest):
        problem.errors = [FieldProblem(**one) for one in error.errors]
    return problem
