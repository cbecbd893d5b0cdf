"""Routes of webhooks to clients: the secret that signs them, and what became of each."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.responses import Response

from app.api.answer import JsonAnswer
from app.api.cursor import decode_cursor, encode_cursor
from app.api.delivery_view import DeliveryPage, DeliveryView, SecretView, delivery_view
from app.api.dependencies import TASK_ID, CurrentCaller, Services, bearer, problems
from app.domain.delivery import DeliveryState
from app.errors import DeliveryNotFound

_DELIVERY_ID = re.compile(r"whd_[0-9a-f]{32}")
_DEFAULT_LIMIT = 50

router = APIRouter(
    prefix="/v1", tags=["webhooks"], dependencies=[Depends(bearer)], responses=problems(401, 403, 422, 503)
)


def _none_if_empty(value: object) -> object:
    return None if value == "" else value


_Empty = BeforeValidator(_none_if_empty)


class _ListQuery(BaseModel):
    """The query of the list. An empty value is as good as none."""

    model_config = ConfigDict(extra="forbid")

    task_id: Annotated[str | None, _Empty] = Field(
        None, pattern=f"^{TASK_ID.pattern}$", description="Of this task only."
    )
    state: Annotated[Literal["pending", "delivered", "failed"] | None, _Empty] = None
    limit: Annotated[
        int, Field(ge=1, le=200), BeforeValidator(lambda value: _DEFAULT_LIMIT if value == "" else value)
    ] = _DEFAULT_LIMIT
    cursor: Annotated[str | None, _Empty] = Field(
        None, description="`next_cursor` of the page before.", json_schema_extra={"format": "delivery-cursor"}
    )


@router.get("/webhook-secret", response_model=SecretView)
async def get_secret(caller: CurrentCaller, services: Services) -> Response:
    """Show the secret that the project's webhooks are signed with; the first look makes it."""
    return _secret(await services.webhook_secrets.current(caller.project))


@router.post("/webhook-secret/rotate", response_model=SecretView)
async def rotate_secret(caller: CurrentCaller, services: Services) -> Response:
    """Make a new secret. For 24 hours webhooks carry the signatures of both."""
    return _secret(await services.webhook_secrets.rotate(caller.project))


@router.get("/webhook-deliveries", response_model=DeliveryPage, responses=problems(422))
async def list_deliveries(query: Annotated[_ListQuery, Query()], caller: CurrentCaller, services: Services) -> Response:
    """List webhook deliveries with their attempts, newest first."""
    logs, last_id = await services.deliveries.page(
        caller,
        task_id=query.task_id,
        state=DeliveryState(query.state) if query.state else None,
        before_id=decode_cursor(query.cursor, _DELIVERY_ID),
        limit=query.limit,
    )
    return JsonAnswer({"data": [delivery_view(log) for log in logs], "next_cursor": encode_cursor(last_id)})


@router.post(
    "/webhook-deliveries/{delivery_id}/redeliver", status_code=202, response_model=DeliveryView, responses=problems(404)
)
async def redeliver(delivery_id: str, caller: CurrentCaller, services: Services) -> Response:
    """Deliver an event again, at once and then by the schedule, whatever came of it before."""
    if not _DELIVERY_ID.fullmatch(delivery_id):
        raise DeliveryNotFound("There is no webhook delivery with this id.")
    return JsonAnswer(delivery_view(await services.deliveries.redeliver(caller, delivery_id)), status_code=202)


def _secret(secret: str) -> Response:
    return JsonAnswer({"secret": secret}, headers={"Cache-Control": "no-store"})
