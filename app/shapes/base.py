"""Types that both msgspec and Pydantic understand.

msgspec encodes shapes and Pydantic documents them; docs/explanation/decisions/0008-api-shapes-and-document.md says why.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType
from pydantic import Field, InstanceOf
from pydantic.json_schema import SkipJsonSchema

Time = Annotated[str, Field(examples=["2026-11-22T09:17:00.123Z"], json_schema_extra={"format": "date-time"})]
"""A time formatted by `isoformat`."""

Omitted = SkipJsonSchema[InstanceOf[UnsetType]]
"""Union member for a field that can be missing. Declare the field with `field(default_factory=unset)`."""

encode = msgspec.json.Encoder().encode
"""Encodes a shape as compact UTF-8 JSON, with fields in the order of the class."""


def unset() -> UnsetType:
    """Default factory for fields that can be missing."""
    return UNSET
