"""How shapes are written: standard dataclasses, encoded by msgspec, documented by Pydantic.

docs/explanation/decisions/0008-api-shapes-and-document.md says why. Types here are the ones that both libraries must agree on.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType
from pydantic import Field, InstanceOf
from pydantic.json_schema import SkipJsonSchema

Time = Annotated[str, Field(examples=["2026-11-22T09:17:00.123Z"], json_schema_extra={"format": "date-time"})]
"""A time as `isoformat` writes it."""

Omitted = SkipJsonSchema[InstanceOf[UnsetType]]
"""In a union: the field may be missing from the JSON object. Declare it with `field(default_factory=unset)`."""

encode = msgspec.json.Encoder().encode
"""Encodes a shape as compact UTF-8 JSON, its fields in the order of the class."""


def unset() -> UnsetType:
    """Return the marker of a missing field; a factory, so that the document shows no default."""
    return UNSET
