"""Routes of result images; the URL is the only credential."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BeforeValidator
from starlette.responses import Response

from app.domain.blob import EXTENSIONS, THUMBNAIL_WIDTHS
from app.errors import ImageNotFound, InvalidRequest
from app.images.files import ImageFiles
from app.images.response import BYTES_PARAMETERS, image_response
from app.images.service import ImageService
from app.shapes.task import IMAGE_PATH
from app.web.openapi import headers, problems
from app.web.parameters import documented
from app.web.services import provide
from app.web.waiting import watch_disconnect

router = APIRouter(prefix=IMAGE_PATH, tags=["images"])

ImageIdInPath = Annotated[str, Path(description="ID of the image.")]
IMAGE_ID = re.compile(r"img_[0-9a-f]{32}")
# Private, because shared caches must not learn the URL. Immutable, because an id's bytes never change.
_CACHE_CONTROL = "private, max-age=86400, immutable"
BINARY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
BYTES_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The image. Its type was detected from its bytes.",
        "content": dict.fromkeys(EXTENSIONS, BINARY),
    },
    206: {"description": "The requested range.", "headers": headers("Content-Range")},
    304: {"description": "The client's copy is current."},
    **problems(404, 416, 422, 503),
}
_WIDTHS = " or ".join(map(str, THUMBNAIL_WIDTHS))
Width = Annotated[
    int | None,
    BeforeValidator(lambda value: None if value == "" else value),
    Query(
        description=f"Return a WebP thumbnail of at most this width ({_WIDTHS}), never larger than the image.",
        json_schema_extra={"enum": [*THUMBNAIL_WIDTHS]},
    ),
]


@router.head("/{image_id}", include_in_schema=False)
@router.get(
    "/{image_id}",
    response_class=Response,
    responses=BYTES_RESPONSES,
    openapi_extra=documented(*BYTES_PARAMETERS),
)
async def get_image(
    request: Request,
    image_id: ImageIdInPath,
    images: Annotated[ImageService, provide(ImageService)],
    files: Annotated[ImageFiles, provide(ImageFiles)],
    w: Width = None,
) -> Response:
    """Get the bytes of an image.

    If the image is not copied yet, it is fetched from its source first.
    """
    if not IMAGE_ID.fullmatch(image_id):
        raise ImageNotFound("No image has this ID.")
    check_width(w)
    async with watch_disconnect(request.receive) as disconnected:
        file = await images.find(image_id, disconnected)
    return await image_response(request, files, file, width=w, cache_control=_CACHE_CONTROL)


def check_width(width: int | None) -> None:
    """Raise `InvalidRequest` for an unsupported width."""
    if width is not None and width not in THUMBNAIL_WIDTHS:
        raise InvalidRequest.field("w", f"must be {_WIDTHS}")
