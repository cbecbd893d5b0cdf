"""The route for the upstream's callbacks."""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request

from app.domain.callback import CALLBACK_PATH
from app.upstream.bodies import MAX_BODY_BYTES
from app.upstream.callbacks import CallbackOutcome, CallbackService
from app.web.body import read_body
from app.web.headers import header
from app.web.openapi import problems
from app.web.response import ShapeResponse
from app.web.services import service


@dataclass(slots=True)
class CallbackReceipt:
    """The outcome of a callback."""

    status: Literal["received", "duplicate"]


# Encoded once, as they never differ.
ANSWERS = {
    CallbackOutcome.RECEIVED: ShapeResponse(CallbackReceipt("received")),
    CallbackOutcome.DUPLICATE: ShapeResponse(CallbackReceipt("duplicate")),
}

router = APIRouter(prefix=CALLBACK_PATH, tags=["callbacks"])


@router.post(
    "/{token}",
    responses=problems(404, 409, 413, 422, 503),
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def receive_callback(
    request: Request, token: Annotated[str, Path(description="The task's id with a signature, from the callback URL.")]
) -> ShapeResponse[CallbackReceipt]:
    """Receive the upstream's callback about a task.

    A response of 200 means that the callback is committed.
    """
    callbacks = service(request, CallbackService)
    task_id = callbacks.check_token(token)
    body = await read_body(request, MAX_BODY_BYTES)
    outcome = await callbacks.receive(
        task_id,
        body,
        content_type=header(request.scope, b"content-type") or "",
        content_encoding=header(request.scope, b"content-encoding") or "",
    )
    return ANSWERS[outcome]
