"""Routes of webhooks: the signing secret and the delivery log."""

import re
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field

from app.domain.delivery import DeliveryState
from app.errors import DeliveryNotFound
from app.shapes.event import WebhookMessage
from app.web.dependencies import TASK_ID, CurrentCaller, bearer
from app.web.openapi import problems
from app.web.pagination import CURSOR, DEFAULT_LIMIT, EmptyIsUnset, Limit, decode_cursor, encode_cursor
from app.web.response import ShapeResponse
from app.web.services import provide
from app.webhooks.deliveries import DeliveryService
from app.webhooks.secrets import WebhookSecrets
from app.webhooks.shapes import Delivery, DeliveryPage, WebhookSecret, delivery_shape

Deliveries = Annotated[DeliveryService, provide(DeliveryService)]
Secrets = Annotated[WebhookSecrets, provide(WebhookSecrets)]
_DELIVERY_ID = re.compile(r"whd_[0-9a-f]{32}")

router = APIRouter(
    prefix="/v1", tags=["webhooks"], dependencies=[Depends(bearer)], responses=problems(401, 403, 422, 503)
)

outgoing = APIRouter(tags=["webhooks"])
"""Webhooks that this service sends; for the OpenAPI document only."""


class _ListQuery(BaseModel):
    """The list's query. An empty value counts as unset."""

    model_config = ConfigDict(extra="forbid")

    task_id: Annotated[str | None, EmptyIsUnset] = Field(
        None, pattern=f"^{TASK_ID.pattern}$", description="Only deliveries of this task."
    )
    state: Annotated[DeliveryState | None, EmptyIsUnset] = None
    limit: Limit = DEFAULT_LIMIT
    cursor: Annotated[str | None, EmptyIsUnset] = Field(
        None, description=CURSOR, json_schema_extra={"format": "delivery-cursor"}
    )


@router.get("/webhook-secret")
async def get_webhook_secret(caller: CurrentCaller, secrets: Secrets) -> ShapeResponse[WebhookSecret]:
    """Get the secret that signs the project's webhooks.

    The first request creates it.
    """
    return _secret(await secrets.current(caller.project))


@router.post("/webhook-secret/rotate")
async def rotate_webhook_secret(caller: CurrentCaller, secrets: Secrets) -> ShapeResponse[WebhookSecret]:
    """Replace the secret that signs the project's webhooks.

    For 24 hours webhooks carry signatures of both secrets.
    """
    return _secret(await secrets.rotate(caller.project))


@router.get("/webhook-deliveries", responses=problems(422))
async def list_webhook_deliveries(
    query: Annotated[_ListQuery, Query()], caller: CurrentCaller, deliveries: Deliveries
) -> ShapeResponse[DeliveryPage]:
    """List webhook deliveries with their attempts, newest first."""
    logs, last_id = await deliveries.page(
        caller,
        task_id=query.task_id,
        state=query.state,
        before_id=decode_cursor(query.cursor, _DELIVERY_ID),
        limit=query.limit,
    )
    page = DeliveryPage([delivery_shape(log.delivery, log.attempts) for log in logs], encode_cursor(last_id))
    return ShapeResponse(page)


@router.post("/webhook-deliveries/{delivery_id}/redeliver", status_code=202, responses=problems(404))
async def redeliver_webhook(
    delivery_id: Annotated[str, Path(description="ID of the delivery.")], caller: CurrentCaller, deliveries: Deliveries
) -> ShapeResponse[Delivery]:
    """Deliver an event again.

    The first attempt is made at once, later ones by the schedule. The delivery may be in any state.
    """
    if not _DELIVERY_ID.fullmatch(delivery_id):
        raise DeliveryNotFound("No webhook delivery has this ID.")
    log = await deliveries.redeliver(caller, delivery_id)
    return ShapeResponse(delivery_shape(log.delivery, log.attempts), 202)


@outgoing.post(
    "task",
    operation_id="receive_task_webhook",
    status_code=204,
    responses={
        204: {"description": "Confirmed. Any 2xx status confirms."},
        410: {"description": "No further attempt is made."},
        "default": {"description": "Sent again later, up to the last attempt of the schedule."},
    },
)
async def receive_task_webhook(message: WebhookMessage) -> None:
    """Receive the result of a task with a `webhook_url`.

    Sent when the task succeeds, fails or is canceled, and signed according to the Standard Webhooks specification.
    """


def _secret(secret: str) -> ShapeResponse[WebhookSecret]:
    return ShapeResponse(WebhookSecret(secret), headers={"Cache-Control": "no-store"})
