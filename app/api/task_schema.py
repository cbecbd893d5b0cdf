"""The body of `POST /v1/tasks` as the API's document tells it: one shape for each model."""

from copy import deepcopy
from typing import Any

from app.api.task_request import TaskRequest
from app.domain.models import OPTIONAL_PARAMETERS, SPECS, Model, ModelSpec


def task_request_schema() -> dict[str, Any]:
    """Return the JSON schema that says of each model which parameters and values it takes."""
    properties = TaskRequest.model_json_schema()["properties"]
    return {"title": "TaskRequest", "oneOf": [_of_model(properties, model, spec) for model, spec in SPECS.items()]}


def _of_model(flat: dict[str, Any], model: Model, spec: ModelSpec) -> dict[str, Any]:
    is_default = model is Model.NANO_BANANA
    known = {name: deepcopy(value) for name, value in flat.items() if name not in OPTIONAL_PARAMETERS}
    known |= {name: _parameter(flat[name], spec.choices.get(name)) for name in spec.defaults}
    known |= {name: {"type": "null"} for name in OPTIONAL_PARAMETERS if name not in spec.defaults}
    known["model"] = {"enum": [model.value, None]} if is_default else {"const": model.value}
    known["image_urls"]["anyOf"][0]["maxItems"] = spec.max_input_images
    return {
        "title": model.value,
        "type": "object",
        "properties": known,
        "required": ["prompt"] if is_default else ["prompt", "model"],
        "additionalProperties": False,
    }


def _parameter(flat: dict[str, Any], choices: tuple[str, ...] | None) -> dict[str, Any]:
    if choices is None:
        return deepcopy(flat)
    kept: dict[str, Any] = {name: flat[name] for name in ("description", "examples", "title") if name in flat}
    return {**kept, "enum": [*choices, None]}
