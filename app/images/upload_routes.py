"""Routes of uploads; to read one, its URL is enough."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request
from pydantic import Field
from starlette.responses import Response

from app.clock import isoformat
from app.domain.blob import EXTENSIONS
from app.domain.upload import UPLOAD_ID, UPLOAD_PATH
from app.errors import UploadNotFound
from app.images.files import ImageFiles
from app.images.response import BYTES_PARAMETERS, image_response
from app.images.routes import BINARY, BYTES_RESPONSES, Width, check_width
from app.images.upload_body import read_file
from app.images.uploads import UploadService
from app.settings import Settings
from app.shapes.base import Time
from app.web.dependencies import CurrentCaller, bearer, get_caller
from app.web.openapi import headers, problems
from app.web.parameters import documented
from app.web.response import ShapeResponse
from app.web.services import provide, service

Uploads = Annotated[UploadService, provide(UploadService)]

router = APIRouter(prefix=UPLOAD_PATH, tags=["uploads"])

UploadIdInPath = Annotated[str, Path(description="ID of the upload.")]

_MAX_AGE_SECONDS = 86_400
_BODY = {
    "required": True,
    "content": {
        **dict.fromkeys((*EXTENSIONS, "application/octet-stream"), BINARY),
        "multipart/form-data": {
            "schema": {
                "title": "UploadForm",
                "type": "object",
                "required": ["file"],
                "properties": {"file": BINARY["schema"]},
                "additionalProperties": False,
            }
        },
    },
}


@dataclass(slots=True)
class Upload:
    """An input image."""

    id: Annotated[str, Field(examples=["upl_0f3c9d1e5a7b4c2d8e6f0a1b2c3d4e5f"])]
    url: Annotated[str, Field(description="Use it in `image_urls`.")]
    content_type: str
    bytes: Annotated[int, Field(description="Size as stored, after personal metadata was removed.")]
    width: int
    height: int
    expires_at: Time


@router.post(
    "",
    status_code=201,
    dependencies=[Depends(bearer)],
    responses={201: {"headers": headers("Location")}, **problems(400, 401, 403, 413, 415, 422, 429, 503)},
    openapi_extra={"requestBody": _BODY},
)
async def create_upload(request: Request, caller: CurrentCaller, uploads: Uploads) -> ShapeResponse[Upload]:
    """Upload an input image.

    Send it as a raw body or multipart form. Personal metadata is removed. The upload expires, but not while a task
    needs it.
    """
    uploads.check_public()
    await uploads.check_quota(caller)
    with uploads.permit(caller), uploads.spool.file() as path:
        await read_file(request, path, uploads.max_bytes)
        caller = await get_caller(request)  # the body may have taken minutes
        kept = await uploads.add(caller, path)
    shape = Upload(
        id=kept.id,
        url=uploads.url_of(kept),
        content_type=kept.content_type,
        bytes=kept.bytes,
        width=kept.width,
        height=kept.height,
        expires_at=isoformat(kept.expires_at),
    )
    return ShapeResponse(shape, 201, {"Location": f"{service(request, Settings).path_prefix}{UPLOAD_PATH}/{kept.id}"})


@router.head("/{upload_id}", include_in_schema=False)
@router.get(
    "/{upload_id}",
    response_class=Response,
    responses={**BYTES_RESPONSES, **problems(410)},
    openapi_extra=documented(*BYTES_PARAMETERS),
)
async def get_upload(
    request: Request,
    upload_id: UploadIdInPath,
    uploads: Uploads,
    files: Annotated[ImageFiles, provide(ImageFiles)],
    w: Width = None,
) -> Response:
    """Get the bytes of an upload, until it expires."""
    if not UPLOAD_ID.fullmatch(upload_id):
        raise UploadNotFound("No upload has this ID.")
    check_width(w)
    found, file = await uploads.find(upload_id)
    max_age = min(uploads.seconds_left(found), _MAX_AGE_SECONDS)
    cache_control = f"private, max-age={max_age}, immutable"
    return await image_response(request, files, file, width=w, cache_control=cache_control)
