"""Reading request bodies: bounded, declared as JSON where they are, checked once."""

from typing import TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError
from starlette.requests import ClientDisconnect, Request

from app.api.problems import field_errors
from app.errors import BodyTooLarge, InvalidRequest, MalformedRequest, UnsupportedMediaType

SMALL_BODY_BYTES = 64 * 1024
"""For routes that read no body: some clients send an empty object anyway."""

M = TypeVar("M", bound=BaseModel)


def _whole(value: object) -> object:
    """Take 3.0 for 3: JSON knows one kind of number, and some programs write all with a point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""For whole numbers in strict models."""


async def read_body(request: Request, limit: int) -> bytes:
    """Read a body of at most `limit` bytes; raises `BodyTooLarge` as soon as it is known to be longer."""
    check_declared_length(request.headers.get("content-length"), limit)
    body = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            return bytes(body)


def check_declared_length(content_length: str | None, limit: int) -> None:
    """Raise `BodyTooLarge` if a `Content-Length` announces more than `limit` bytes."""
    if content_length is not None and content_length.isdigit() and int(content_length) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body may have at most {limit} bytes.")


async def read_model(request: Request, model: type[M], limit: int) -> M:
    """Read and check a JSON body; raises an error that names each wrong field.

    JSON must be declared: a web page can send undeclared bodies anywhere without asking first.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType("Send the body as JSON, with the header 'Content-Type: application/json'.")
    body = await read_body(request, limit)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        errors = field_errors(error)
        if any(item["type"] == "json_invalid" for item in error.errors()):
            reason = errors[0]["message"].removeprefix("Invalid JSON: ")
            raise MalformedRequest(f"The body is not valid JSON: {reason}.") from None
        raise InvalidRequest("Some fields of the body are wrong.", errors) from None
