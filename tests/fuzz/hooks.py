"""Schemathesis hooks for rules that the OpenAPI document can't express."""

import base64
import uuid
from typing import Any

import schemathesis
from hypothesis import strategies as st

from tests.support.schemas import closed


def _cursors(prefix: str) -> st.SearchStrategy[str]:
    """Generate cursors, as well-formed ones of other lists are rejected."""
    return st.integers(0, 16**32 - 1).map(
        lambda number: base64.urlsafe_b64encode(f"{prefix}_{number:032x}".encode()).decode().rstrip("=")
    )


schemathesis.openapi.format("task-cursor", _cursors("task"))
schemathesis.openapi.format("delivery-cursor", _cursors("whd"))
schemathesis.openapi.format("subject", st.text(st.characters(codec="latin-1", categories=["L", "N"]), min_size=1))
# Valid webhook URLs in a reserved domain, so that no delivery reaches a real receiver.
schemathesis.openapi.format(
    "uri",
    st.lists(st.sampled_from([*"abc/?&=", "%25"]), max_size=20).map(
        lambda parts: f"https://shop.example.com/{''.join(parts)}"
    ),
)


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Describe streams, allow empty queries, and forbid undocumented fields."""
    schemas = raw_schema["components"]["schemas"]
    schemas.update(closed(schemas))
    data = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {"$ref": "#/components/schemas/Task"},
    }
    event = {"type": "object", "required": ["id", "event", "data"], "properties": {"data": data}}
    for path in raw_schema["paths"].values():
        for operation in path.values():
            content = operation["responses"].get("200", {}).get("content", {}).get("text/event-stream")
            if content is not None:
                del content["schema"]
                content["itemSchema"] = event
            for parameter in operation.get("parameters", []):
                if parameter["in"] == "query":
                    # An empty value counts as unset.
                    parameter["schema"] = {"anyOf": [parameter["schema"], {"const": ""}]}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Make positive cases valid where fields depend on others."""
    if case.meta is not None and case.meta.generation.mode.is_negative:
        return
    # Reuse with different content is rightly rejected.
    if case.headers and "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = uuid.uuid4().hex
    # It must match the presence of input images.
    if isinstance(case.body, dict) and "type" in case.body and "prompt" in case.body:
        case.body["type"] = None
