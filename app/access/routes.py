"""The route that creates browser tokens."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import AfterValidator, Field

from app.access.authenticator import Authenticator
from app.clock import isoformat
from app.domain.browser_token import MAX_SUBJECT_CHARACTERS, is_subject
from app.shapes.base import Time
from app.web.dependencies import CurrentCaller, bearer
from app.web.json_body import WHOLE, RequestModel, read_model
from app.web.openapi import json_body, problems
from app.web.response import ShapeResponse
from app.web.services import provide

_MAX_BODY_BYTES = 16 * 1024
_DEFAULT_SECONDS = 900
_MAX_SECONDS = 86_400
_DEFAULT_TASKS = 20
_MAX_TASKS = 10_000

router = APIRouter(prefix="/v1/tokens", tags=["tokens"], dependencies=[Depends(bearer)])


def _subject(text: str) -> str:
    if not is_subject(text):
        raise ValueError("must be printable and not blank")
    return text


class TokenRequest(RequestModel):
    """A browser token to create. `null` fields count as omitted."""

    subject: Annotated[str, Field(min_length=1, max_length=MAX_SUBJECT_CHARACTERS), AfterValidator(_subject)] = Field(
        description="Your ID for the user. The token only gives access to tasks with the same subject.",
        examples=["user-7"],
        json_schema_extra={"format": "subject"},
    )
    ttl_seconds: Annotated[int, Field(ge=1, le=_MAX_SECONDS), WHOLE] | None = Field(
        None, description=f"Lifetime in seconds; {_DEFAULT_SECONDS} if omitted."
    )
    max_tasks: Annotated[int, Field(ge=0, le=_MAX_TASKS), WHOLE] | None = Field(
        None, description=f"How many tasks the token can submit, including retries; {_DEFAULT_TASKS} if omitted."
    )


@dataclass(slots=True)
class Token:
    """A browser token. It can't be shown again."""

    token: Annotated[str, Field(examples=["nbt_WyJ0b2tfMDE5OS…"])]
    expires_at: Time


@router.post(
    "",
    status_code=201,
    responses=problems(400, 401, 403, 413, 415, 422, 503),
    openapi_extra=json_body(TokenRequest, examples={"user": {"subject": "user-7"}}),
)
async def create_token(
    request: Request, caller: CurrentCaller, authenticator: Annotated[Authenticator, provide(Authenticator)]
) -> ShapeResponse[Token]:
    """Create a browser token for one of your users.

    Requires an API key.
    """
    body = await read_model(request, TokenRequest, _MAX_BODY_BYTES)
    token, expires_at = authenticator.issue_token(
        caller,
        subject=body.subject,
        seconds=_DEFAULT_SECONDS if body.ttl_seconds is None else body.ttl_seconds,
        max_tasks=_DEFAULT_TASKS if body.max_tasks is None else body.max_tasks,
    )
    return ShapeResponse(Token(token, isoformat(expires_at)), 201, {"Cache-Control": "no-store"})
