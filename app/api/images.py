"""Routes of images: the bytes of a copy. The id in the address is all that is needed to see it."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import BeforeValidator
from starlette.responses import Response

from app.api.dependencies import Services, problems
from app.api.picture_response import picture_response
from app.api.waiting import departure
from app.domain.blob import THUMBNAIL_WIDTHS
from app.domain.task_state import IMAGE_PATH
from app.errors import ImageNotFound, InvalidRequest

router = APIRouter(prefix=IMAGE_PATH, tags=["images"])

IMAGE_ID = re.compile(r"img_[0-9a-f]{32}")
# Private, as whoever has the address may see it, but caches that others share shall not learn it. The bytes under an
# id never change.
_CACHE_CONTROL = "private, max-age=86400, immutable"
_BYTES: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
BYTES_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The picture; its type was found out from its bytes.",
        "content": dict.fromkeys(("image/png", "image/jpeg", "image/webp", "image/gif"), _BYTES),
    },
    206: {"description": "The part that `Range` asks for."},
    304: {"description": "The client has it already."},
    **problems(404, 416, 422, 503),
}
_WIDTHS = " or ".join(map(str, THUMBNAIL_WIDTHS))
Width = Annotated[
    int | None,
    BeforeValidator(lambda value: None if value == "" else value),
    Query(
        description=f"{_WIDTHS}: a WebP of at most that width instead, never larger than the picture.",
        json_schema_extra={"enum": [*THUMBNAIL_WIDTHS]},
    ),
]


@router.head("/{image_id}", include_in_schema=False)
@router.get("/{image_id}", status_code=200, response_class=Response, responses=BYTES_RESPONSES)
async def show(request: Request, image_id: str, services: Services, w: Width = None) -> Response:
    """Show an image. One that is still to be fetched from its source is fetched now."""
    if not IMAGE_ID.fullmatch(image_id):
        raise ImageNotFound("There is no image with this id.")
    check_width(w)
    async with departure(request.receive) as leaving:
        file = await services.images.find(image_id, leaving)
    return await picture_response(request, services.files, file, width=w, cache_control=_CACHE_CONTROL)


def check_width(width: int | None) -> None:
    """Raise `InvalidRequest` for a width that no thumbnails are made in."""
    if width is not None and width not in THUMBNAIL_WIDTHS:
        raise InvalidRequest("Some parameters are wrong.", [{"field": "w", "message": f"must be {_WIDTHS}"}])
