"""Where the upstream calls back."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.answer import JsonAnswer
from app.api.body import read_body
from app.api.dependencies import factory_of, problems
from app.factory import CALLBACK_PATH
from app.services.callbacks import Answer

_MAX_BODY_BYTES = 256 * 1024

# Written once: there is nothing in them that differs from callback to callback.
ANSWERS = {answer: JsonAnswer({"status": answer.value}) for answer in Answer}

router = APIRouter(prefix=CALLBACK_PATH, tags=["callbacks"])


@router.post(
    "/{token}",
    responses=problems(404, 409, 413, 422, 503),
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def receive(request: Request, token: str) -> Response:
    """Receive the upstream's notice about a task. 200 means that it is committed."""
    callbacks = factory_of(request).callbacks
    task_id = callbacks.check_token(token)
    body = await read_body(request, _MAX_BODY_BYTES)
    return ANSWERS[await callbacks.receive(task_id, body)]
