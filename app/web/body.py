"""Reading request bodies: bounded, declared as JSON where they are, checked once."""

from typing import TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError
from starlette.requests import ClientDisconnect, Request

from app.errors import BodyTooLarge, InvalidRequest, MalformedRequest, UnsupportedMediaType
from app.web.headers import header
from app.web.memory_budget import MemoryPermit
from app.web.problems import field_errors

SMALL_BODY_BYTES = 64 * 1024
"""For routes that read no body: some clients send an empty object anyway."""

# How a string begins in JSON that is a picture.
_PICTURE = b'"data:'
_MAX_PICTURES = 16
M = TypeVar("M", bound=BaseModel)


def _whole(value: object) -> object:
    """Take 3.0 for 3: JSON knows one kind of number, and some programs write all with a point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""For whole numbers in strict models."""


async def read_body(request: Request, limit: int, room: MemoryPermit | None = None) -> bytes:
    """Read a body of at most `limit` bytes; raises `BodyTooLarge` as soon as it is known to be longer.

    With `room` it may have as many bytes as that allows, if within the first `limit` a picture begins (a data URI).
    """
    most = limit if room is None else max(limit, room.limit)
    check_declared_length(header(request.scope, b"content-length"), most)
    body = bytearray()
    is_large = False
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk = message.get("body", b"")
        body += chunk
        if len(body) > limit:
            if room is None or len(body) > most or not (is_large or _PICTURE in body):
                raise _too_large(most if is_large else limit)
            room.take(len(chunk) if is_large else len(body))
            is_large = True
        if not message.get("more_body", False):
            if is_large and _beside_pictures(body) > limit:
                raise BodyTooLarge(f"Beside its pictures the body may have at most {limit} bytes.")
            return bytes(body)


def check_declared_length(content_length: str | None, limit: int) -> None:
    """Raise `BodyTooLarge` if a `Content-Length` announces more than `limit` bytes."""
    if content_length is not None and content_length.isdigit() and int(content_length) > limit:
        raise _too_large(limit)


def _beside_pictures(body: bytearray) -> int:
    """Count the bytes that are in no picture: a body of millions of small things would take much longer to check."""
    count, at = len(body), 0
    for _ in range(_MAX_PICTURES):
        start = body.find(_PICTURE, at)
        end = body.find(b'"', start + 1) if start >= 0 else -1
        if end < 0:
            break
        count -= end - start
        at = end + 1
    return count


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body may have at most {limit} bytes.")


async def read_model(request: Request, model: type[M], limit: int, room: MemoryPermit | None = None) -> M:
    """Read and check a JSON body; raises an error that names each wrong field.

    JSON must be declared: a web page can send undeclared bodies anywhere without asking first.
    """
    media_type = (header(request.scope, b"content-type") or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType("Send the body as JSON, with the header 'Content-Type: application/json'.")
    body = await read_body(request, limit, room)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        errors = field_errors(error)
        if any(item["type"] == "json_invalid" for item in error.errors()):
            reason = errors[0]["message"].removeprefix("Invalid JSON: ")
            raise MalformedRequest(f"The body is not valid JSON: {reason}.") from None
        raise InvalidRequest("Some fields of the body are invalid.", errors) from None
