"""Reads and validates JSON bodies, with helpful errors."""

import codecs
import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from starlette.requests import Request

from app.errors import GatewayError, InvalidRequest, MalformedRequest, UnsupportedMediaType
from app.web.body import read_body
from app.web.headers import header
from app.web.memory_budget import MemoryPermit
from app.web.problems import invalid_request
from app.web.suggestions import suggestion

_SURROGATE = re.compile("[\ud800-\udfff]")


class RequestModel(BaseModel):
    """Base of JSON bodies; unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", strict=True)
    synonyms: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Field names of other APIs, with the equivalent field here."""

    @classmethod
    def suggest(cls, name: str) -> str | None:
        """Return the field that an unknown name probably means."""
        return suggestion(name, cls.model_fields, cls.synonyms)


M = TypeVar("M", bound=RequestModel)


def _whole(value: object) -> object:
    """Accept 3.0 as 3; some clients send integers that way."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
"""For integer fields of strict models."""


async def read_model(request: Request, model: type[M], limit: int, permit: MemoryPermit | None = None) -> M:
    """Read and validate a JSON body.

    Raises `UnsupportedMediaType`, `BodyTooLarge`, `MalformedRequest`, or `InvalidRequest`, which lists the invalid
    fields. `Content-Type` must be JSON because a web page can send other types to any origin without a preflight.
    """
    media_type = (header(request.scope, b"content-type") or "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        raise UnsupportedMediaType("Send the body as JSON, with the header 'Content-Type: application/json'.")
    body = (await read_body(request, limit, permit)).removeprefix(codecs.BOM_UTF8)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False)[0] if error.error_count() == 1 else None
        if first and first["type"] == "json_invalid":
            raise _invalid_json(body, first["msg"].removeprefix("Invalid JSON: ")) from None
        raise invalid_request(error, model.suggest) from None


def _invalid_json(body: bytes, reason: str) -> GatewayError:
    """Return the error for invalid JSON or a lone surrogate."""
    # JavaScript's `slice` can cut an emoji in two. Python's parser accepts the halves, so it can find their field.
    try:
        field = _field_with_surrogate(json.loads(body))
    except (ValueError, RecursionError):
        field = None
    if field is None:
        return MalformedRequest(f"The body is not valid JSON: {reason}.")
    return InvalidRequest.field(field or "body", "contains half of a surrogate pair, such as an emoji cut in two")


def _field_with_surrogate(value: object) -> str | None:
    """Return the path of the first string with a surrogate."""
    if isinstance(value, str):
        return "" if _SURROGATE.search(value) else None
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        if isinstance(name, str) and _SURROGATE.search(name):
            return ""
        if (below := _field_with_surrogate(item)) is not None:
            return f"{name}.{below}".rstrip(".")
    return None
