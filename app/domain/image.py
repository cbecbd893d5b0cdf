"""A result image of a task."""

from enum import StrEnum

import msgspec
import uuid_utils


class ImageState(StrEnum):
    """Whether this service holds a copy of the image."""

    PENDING = "pending"
    STORED = "stored"
    UNAVAILABLE = "unavailable"


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """One image; size in bytes and pixels are known once it was fetched."""

    id: str
    task_id: str
    position: int
    source_url: str
    state: ImageState = ImageState.PENDING
    content_type: str | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None


def new_images(task_id: str, urls: tuple[str, ...]) -> list[Image]:
    """Create the images of a task in the upstream's order, with ids that nobody can guess (122 random bits)."""
    # Asking the system for each would give the interpreter away, and a busy event loop gives it back late.
    return [
        Image(id=f"img_{uuid_utils.uuid4().hex}", task_id=task_id, position=position, source_url=url)
        for position, url in enumerate(urls)
    ]
