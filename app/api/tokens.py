"""The route where servers get tokens for their pages."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.responses import Response

from app.api.answer import JsonAnswer
from app.api.body import WHOLE, read_model
from app.api.dependencies import CurrentCaller, Services, bearer, problems
from app.api.task_view import Time
from app.clock import isoformat
from app.domain.browser_token import MAX_SUBJECT_CHARACTERS, is_subject

_MAX_BODY_BYTES = 16 * 1024
_DEFAULT_SECONDS = 900
_MAX_SECONDS = 86_400
_DEFAULT_TASKS = 20
_MAX_TASKS = 10_000

router = APIRouter(prefix="/v1/tokens", tags=["tokens"], dependencies=[Depends(bearer)])


def _subject(text: str) -> str:
    if not is_subject(text):
        raise ValueError("must consist of printable characters, not all of them blank")
    return text


class TokenRequest(BaseModel):
    """A token to be made. `null` is as good as left out."""

    model_config = ConfigDict(extra="forbid", strict=True)

    subject: Annotated[str, Field(min_length=1, max_length=MAX_SUBJECT_CHARACTERS), AfterValidator(_subject)] = Field(
        description="Whom the token is for, in your words: it sees what was made with tokens of the same subject.",
        examples=["user-7"],
        json_schema_extra={"format": "subject"},
    )
    ttl_seconds: Annotated[int, Field(ge=1, le=_MAX_SECONDS), WHOLE] | None = Field(
        None, description=f"For how long it is good, {_DEFAULT_SECONDS} if left out."
    )
    max_tasks: Annotated[int, Field(ge=0, le=_MAX_TASKS), WHOLE] | None = Field(
        None, description=f"How many tasks it may submit, retries included; {_DEFAULT_TASKS} if left out."
    )


class TokenView(BaseModel):
    """A token; nothing can show it again."""

    token: str = Field(examples=["nbt_WyJ0b2tfMDE5OS…"])
    expires_at: Time


@router.post(
    "",
    status_code=201,
    response_model=TokenView,
    responses=problems(400, 401, 403, 413, 415, 422, 503),
    openapi_extra={
        "requestBody": {"required": True, "content": {"application/json": {"schema": TokenRequest.model_json_schema()}}}
    },
)
async def create(request: Request, caller: CurrentCaller, services: Services) -> Response:
    """Make a token that a page may hold for one of your users. Takes an API key."""
    body = await read_model(request, TokenRequest, _MAX_BODY_BYTES)
    token, expires_at = services.tokens.make(
        caller,
        subject=body.subject,
        seconds=_DEFAULT_SECONDS if body.ttl_seconds is None else body.ttl_seconds,
        max_tasks=_DEFAULT_TASKS if body.max_tasks is None else body.max_tasks,
    )
    answer = {"token": token, "expires_at": isoformat(expires_at)}
    return JsonAnswer(answer, status_code=201, headers={"Cache-Control": "no-store"})
