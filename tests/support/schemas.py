"""Strict JSON schemas, which reject undocumented fields."""

from typing import Any


def closed(schema: Any) -> Any:
    """Return a copy whose objects allow no additional properties."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {name: closed(value) for name, value in schema.items()}
    if "properties" in copy and isinstance(copy.get("type"), str):
        copy.setdefault("additionalProperties", False)
    return copy
