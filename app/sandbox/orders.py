"""Orders: what a submit asks for, checked the way the vendor checks it."""

import json
from dataclasses import dataclass
from typing import Any

from app.domain.models import SPECS, Model
from app.upstream.wire import WIRE_NAMES, WIRE_TYPES

_MAX_IMAGES = 4
_MAX_PROMPT = {Model.NANO_BANANA_2: 20_000}
# The vendor states no limit of input images for `generate`.
_MAX_INPUTS = {model: SPECS[model].max_input_images for model in (Model.NANO_BANANA_PRO, Model.NANO_BANANA_2)}
_TEXT, _IMAGE = WIRE_TYPES.values()
_OBJECT = "The request body is not a JSON object."


class OrderError(ValueError):
    """A submit that the vendor refuses with code 400; the text is the message."""


@dataclass(frozen=True, slots=True)
class Order:
    """A valid submit. `params` holds what the vendor repeats as `paramJson`."""

    model: str
    type: str
    prompt: str
    image_urls: tuple[str, ...]
    num_images: int
    aspect_ratio: str | None
    resolution: str | None
    output_format: str
    watermark: str | None
    callback_url: str | None
    params: dict[str, Any]


def read_order(model: Model, raw: bytes) -> Order:
    """Read the body of a submit to `model`; raises `OrderError`. Fields that the model lacks are passed over."""
    body = _object(raw)
    # Only what the endpoint knows counts; null is as good as absent.
    names = [WIRE_NAMES[model][name] for name in SPECS[model].defaults]
    params = {name: body[name] for name in ("prompt", "imageUrls", *names) if body.get(name) is not None}
    prompt = params.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise OrderError("prompt is required.")
    if len(prompt) > _MAX_PROMPT.get(model, len(prompt)):
        raise OrderError(f"prompt exceeds {_MAX_PROMPT[model]} characters.")
    image_urls = _image_urls(model, params.get("imageUrls", []))
    kind = _IMAGE if image_urls else _TEXT
    if model is Model.NANO_BANANA:
        kind = params["type"] = _type(body.get("type"), image_urls)
        params["numImages"] = _num_images(params.get("numImages", 1))
    _check_choices(model, params)
    if not isinstance(params.get("googleSearch", False), bool):
        raise OrderError("googleSearch must be a boolean.")
    if not isinstance(params.get("watermark", ""), str):
        raise OrderError("watermark must be a string.")
    callback_url = body.get("callBackUrl")
    return Order(
        model=model.value,
        type=kind,
        prompt=prompt,
        image_urls=image_urls,
        num_images=params.get("numImages", 1),
        aspect_ratio=params.get(WIRE_NAMES[model]["aspect_ratio"]),
        resolution=params.get("resolution"),
        output_format=params.get("outputFormat", "png"),
        watermark=params.get("watermark"),
        callback_url=callback_url.strip() if isinstance(callback_url, str) and callback_url.strip() else None,
        params=params,
    )


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise OrderError(_OBJECT) from None
    if not isinstance(body, dict):
        raise OrderError(_OBJECT)
    return body


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _type(value: object, image_urls: tuple[str, ...]) -> str:
    if value not in WIRE_TYPES.values():
        raise OrderError(f"type must be {_TEXT} or {_IMAGE}.")
    if value == _IMAGE and not image_urls:
        raise OrderError(f"imageUrls is required for {_IMAGE}.")
    return str(value)


def _image_urls(model: Model, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(url, str) for url in value):
        raise OrderError("imageUrls must be an array of URLs.")
    # Clients send `[""]` for "none".
    urls = tuple(url for url in value if url.strip())
    if len(urls) > _MAX_INPUTS.get(model, len(urls)):
        raise OrderError(f"imageUrls takes at most {_MAX_INPUTS[model]} images.")
    return urls


def _num_images(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MAX_IMAGES:
        raise OrderError(f"numImages must be an integer from 1 to {_MAX_IMAGES}.")
    return value


def _check_choices(model: Model, params: dict[str, Any]) -> None:
    for name, allowed in SPECS[model].choices.items():
        wire_name = WIRE_NAMES[model][name]
        if wire_name in params and params[wire_name] not in allowed:
            raise OrderError(f"{wire_name} must be one of {', '.join(allowed)}.")
