"""Parses submits and validates them as the vendor does."""

import json
from dataclasses import dataclass
from typing import Any

from app.domain.models import SPECS, Model
from app.upstream.wire import WIRE_NAMES, WIRE_TYPES

_MAX_IMAGES = 4
_MAX_PROMPT_CHARACTERS = {Model.NANO_BANANA_2: 20_000}
# The vendor documents no limit on input images for `generate`.
_MAX_INPUTS = {model: SPECS[model].max_input_images for model in (Model.NANO_BANANA_PRO, Model.NANO_BANANA_2)}
_TEXT, _IMAGE = WIRE_TYPES.values()


class OrderError(ValueError):
    """An invalid submit; the text is the 400's message."""


@dataclass(frozen=True, slots=True)
class Order:
    """A valid submit; `params` are its known fields (`paramJson`)."""

    model: Model
    type: str
    prompt: str
    image_urls: tuple[str, ...]
    callback_url: str | None
    params: dict[str, Any]

    @property
    def image_count(self) -> int:
        """How many images to generate."""
        return int(self.params.get("numImages", 1))

    @property
    def output_format(self) -> str:
        """`png` or `jpg`."""
        return str(self.params.get("outputFormat", "png"))


def read_order(model: Model, raw: bytes) -> Order:
    """Parse a submit's body, ignoring unknown fields; raises `OrderError`."""
    try:
        body = json.loads(raw, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        body = None
    _check(isinstance(body, dict), "The request body is not a JSON object.")
    names = WIRE_NAMES[model]
    known = ("prompt", "imageUrls", *(names[name] for name in SPECS[model].defaults))
    # null is the same as omitting the field.
    params = {name: body[name] for name in known if body.get(name) is not None}
    prompt, urls = params.get("prompt", ""), params.get("imageUrls", [])
    _check(isinstance(prompt, str) and prompt.strip(), "prompt is required.")
    max_characters = _MAX_PROMPT_CHARACTERS.get(model, len(prompt))
    _check(len(prompt) <= max_characters, f"prompt exceeds {max_characters} characters.")
    _check(isinstance(urls, list) and all(isinstance(url, str) for url in urls), "imageUrls must be an array of URLs.")
    # Clients send `[""]` for "none".
    image_urls = tuple(url for url in urls if url.strip())
    max_inputs = _MAX_INPUTS.get(model, len(image_urls))
    _check(len(image_urls) <= max_inputs, f"imageUrls takes at most {max_inputs} images.")
    kind = _IMAGE if image_urls else _TEXT
    if model is Model.NANO_BANANA:
        kind = params["type"] = body.get("type")
        _check(kind in WIRE_TYPES.values(), f"type must be {_TEXT} or {_IMAGE}.")
        _check(kind == _TEXT or image_urls, f"imageUrls is required for {_IMAGE}.")
        count = params.setdefault("numImages", 1)
        _check(
            type(count) is int and 1 <= count <= _MAX_IMAGES, f"numImages must be an integer from 1 to {_MAX_IMAGES}."
        )
    for name, choices in SPECS[model].choices.items():
        is_valid = names[name] not in params or params[names[name]] in choices
        _check(is_valid, f"{names[name]} must be one of {', '.join(choices)}.")
    _check(isinstance(params.get("googleSearch", False), bool), "googleSearch must be a boolean.")
    _check(isinstance(params.get("watermark", ""), str), "watermark must be a string.")
    url = body.get("callBackUrl")
    return Order(model, kind, prompt, image_urls, (url.strip() or None) if isinstance(url, str) else None, params)


def _check(is_valid: object, message: str) -> None:
    if not is_valid:
        raise OrderError(message)


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
