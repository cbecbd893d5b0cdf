"""Types that msgspec, which encodes shapes, and Pydantic, which documents them, share.

docs/explanation/decisions/0008-api-shapes-and-document.md says why.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType
from pydantic import Field, InstanceOf
from pydantic.json_schema import SkipJsonSchema

Time = Annotated[str, Field(examples=["2026-11-22T09:17:00.123Z"], json_schema_extra={"format": "date-time"})]
"""A time as `isoformat` writes it."""

Omitted = SkipJsonSchema[InstanceOf[UnsetType]]
"""In a union: the field may be missing. Declare it with `field(default_factory=unset)`."""

encode = msgspec.json.Encoder().encode
"""Encodes a shape as compact JSON (UTF-8), with its fields in the order of the class."""


def unset() -> UnsetType:
    """Return the marker of a missing field, as a default factory."""
    return UNSET
