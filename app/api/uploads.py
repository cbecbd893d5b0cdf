"""Routes of uploads: hand a picture over, and show it. The id in the address is all that is needed to see it."""

import time
from typing import Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from app.api.answer import JsonAnswer
from app.api.dependencies import CurrentCaller, Services, ask_again, bearer, problems
from app.api.file_body import read_file
from app.api.images import BYTES_RESPONSES, Width, check_width
from app.api.picture_response import picture_response
from app.api.task_view import Time
from app.clock import isoformat
from app.domain.upload import UPLOAD_ID, UPLOAD_PATH, Upload
from app.errors import UploadNotFound

router = APIRouter(prefix=UPLOAD_PATH, tags=["uploads"])

_MAX_AGE_SECONDS = 86_400
_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_BODY = {
    "required": True,
    "content": {
        **dict.fromkeys(("image/png", "image/jpeg", "image/webp", "image/gif"), _BYTES),
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {"file": {"type": "string", "format": "binary"}},
                "additionalProperties": False,
            }
        },
    },
}


class UploadView(BaseModel):
    """An upload. `bytes` are those that were kept: what tells about the picture's maker was taken out."""

    id: str = Field(examples=["upl_0f3c9d1e5a7b4c2d8e6f0a1b2c3d4e5f"])
    url: str = Field(description="Can stand in `image_urls`.")
    content_type: str
    bytes: int
    width: int
    height: int
    expires_at: Time


@router.post(
    "",
    status_code=201,
    response_model=UploadView,
    dependencies=[Depends(bearer)],
    responses=problems(400, 401, 403, 413, 415, 422, 429, 503),
    openapi_extra={"requestBody": _BODY},
)
async def upload(request: Request, caller: CurrentCaller, services: Services) -> Response:
    """Hand over an input picture: as the body itself, or as the one part of a form."""
    asked_at = time.monotonic()
    services.uploads.check_public()
    await services.uploads.check_quota(caller)
    with services.uploads.place(caller), services.spool.file() as path:
        await read_file(request, path, services.uploads.max_bytes)
        caller = await ask_again(request, caller, asked_at)
        kept = await services.uploads.add(caller, path)
    url = services.uploads.url_of(kept)
    return JsonAnswer(_view(kept, url), status_code=201, headers={"Location": f"{UPLOAD_PATH}/{kept.id}"})


@router.head("/{upload_id}", include_in_schema=False)
@router.get("/{upload_id}", status_code=200, response_class=Response, responses={**BYTES_RESPONSES, **problems(410)})
async def show_upload(request: Request, upload_id: str, services: Services, w: Width = None) -> Response:
    """Show an upload until it expires."""
    if not UPLOAD_ID.fullmatch(upload_id):
        raise UploadNotFound("There is no upload with this id.")
    check_width(w)
    found, file = await services.uploads.find(upload_id)
    left = max((found.expires_at - services.clock.now()) // 1000, 0)
    cache_control = f"private, max-age={min(left, _MAX_AGE_SECONDS)}, immutable"
    return await picture_response(request, services.files, file, width=w, cache_control=cache_control)


def _view(kept: Upload, url: str) -> dict[str, Any]:
    return {
        "id": kept.id,
        "url": url,
        "content_type": kept.content_type,
        "bytes": kept.bytes,
        "width": kept.width,
        "height": kept.height,
        "expires_at": isoformat(kept.expires_at),
    }
