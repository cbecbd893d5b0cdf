"""Reads request bodies up to a size limit."""

from starlette.requests import Request

from app.errors import BodyTooLarge
from app.web.headers import header
from app.web.memory_budget import MemoryPermit

SMALL_BODY_BYTES = 64 * 1024
"""Limit for routes that read no body. Some clients send an empty object anyway."""

# A JSON string that contains an image begins like this.
_IMAGE = b'"data:'
_MAX_IMAGES = 16


async def read_body(request: Request, limit: int, permit: MemoryPermit | None = None) -> bytes:
    """Read a body of at most `limit` bytes; raises `BodyTooLarge`.

    With a permit, the body can be up to `permit.limit` bytes if an image (a data URI) begins within the first `limit`.
    """
    max_bytes = limit if permit is None else max(limit, permit.limit)
    check_declared_length(header(request.scope, b"content-length"), max_bytes)
    body = bytearray()
    is_large = False
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            if permit is None or len(body) > max_bytes or not (is_large or _IMAGE in body):
                raise _too_large(max_bytes if is_large else limit)
            permit.take(len(chunk) if is_large else len(body))
            is_large = True
    if is_large and _bytes_besides_images(body) > limit:
        raise BodyTooLarge(f"Apart from its images, the body is limited to {limit} bytes.")
    return bytes(body)


def check_declared_length(content_length: str | None, limit: int) -> None:
    """Raise `BodyTooLarge` if `Content-Length` exceeds `limit` bytes."""
    if content_length is not None and content_length.isdigit() and int(content_length) > limit:
        raise _too_large(limit)


def _bytes_besides_images(body: bytearray) -> int:
    """Count the bytes outside of images.

    Their limit is lower because validating millions of small values would take too long.
    """
    count, end = len(body), 0
    for _ in range(_MAX_IMAGES):
        start = body.find(_IMAGE, end)
        end = body.find(b'"', start + 1) + 1 if start >= 0 else 0
        if end == 0:
            break
        count -= end - start
    return count


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is limited to {limit} bytes.")
