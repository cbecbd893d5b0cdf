"""JSON schemas made strict: a field that a schema does not name is an error."""

from typing import Any


def closed(schema: Any) -> Any:
    """Return a copy in which no object may have other properties than those that are named."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    copy = {name: closed(value) for name, value in schema.items()}
    if "properties" in copy and isinstance(copy.get("type"), str):
        copy.setdefault("additionalProperties", False)
    return copy
