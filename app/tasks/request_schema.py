"""The OpenAPI schema of a submit, one component per model."""

from copy import deepcopy
from typing import Any

from app.domain.models import OPTIONAL_PARAMETERS, SPECS, Model, ModelSpec
from app.tasks.requests import TaskRequest
from app.web.openapi import REF

DEFAULT_MODEL = Model.NANO_BANANA
EXAMPLES: dict[str, Any] = {
    "minimal": {"prompt": "a lake at sunset"},
    "all options": {
        "prompt": "a lake at sunset",
        "model": "nano-banana-pro",
        "aspect_ratio": "16:9",
        "resolution": "2K",
        "metadata": {"order": "42"},
    },
}


def task_request_schema() -> dict[str, Any]:
    """Return the JSON schema, with each model's parameters and values.

    The discriminator requires `model` in all its shapes, so requests without it have a separate shape.
    """
    properties = TaskRequest.model_json_schema()["properties"]
    models = {model: _of_model(properties, model, spec) for model, spec in SPECS.items()}
    refs = {model.value: REF.format(model=schema["title"]) for model, schema in models.items()}
    unnamed = _of_model(properties, None, SPECS[DEFAULT_MODEL])
    named = {
        "title": "ModelRequest",
        "description": "A task for a named model.",
        "oneOf": [{"$ref": ref} for ref in refs.values()],
        "discriminator": {"propertyName": "model", "mapping": refs},
    }
    shapes = [unnamed, named]
    return {
        "title": "TaskRequest",
        "description": "A task to submit. `null` is the same as omitting a field.",
        "oneOf": [{"$ref": REF.format(model=shape["title"])} for shape in shapes],
        "$defs": {schema["title"]: schema for schema in [*shapes, *models.values()]},
    }


def _of_model(flat: dict[str, Any], model: Model | None, spec: ModelSpec) -> dict[str, Any]:
    known = {name: deepcopy(value) for name, value in flat.items() if name not in OPTIONAL_PARAMETERS}
    known |= {name: _parameter(flat[name], spec.choices.get(name)) for name in spec.defaults}
    known |= {name: {"type": "null"} for name in OPTIONAL_PARAMETERS if name not in spec.defaults}
    known["model"] = {"type": "string", "const": model.value} if model else {"type": "null"}
    known["image_urls"]["anyOf"][0]["maxItems"] = spec.max_input_images
    name = model.value if model else "default-model"
    return {
        "title": f"{''.join(part.capitalize() for part in name.split('-'))}Request",
        "description": f"A task for {model.value if model else f'the default model, {DEFAULT_MODEL.value}'}.",
        "type": "object",
        "properties": known,
        "required": ["prompt", "model"] if model else ["prompt"],
        "additionalProperties": False,
    }


def _parameter(flat: dict[str, Any], choices: tuple[str, ...] | None) -> dict[str, Any]:
    if choices is None:
        return deepcopy(flat)
    kept: dict[str, Any] = {name: flat[name] for name in ("description", "examples", "title") if name in flat}
    return {**kept, "type": ["string", "null"], "enum": [*choices, None]}
