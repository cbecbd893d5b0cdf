"""The paths and bodies of requests to the vendor.

They are documented at docs.nanobananaapi.ai. `reports.py` and `outcome.py` read replies and callbacks.
"""

from typing import Any

from app.domain.models import Model, TaskType, type_of

RECORD_INFO_PATH = "/api/v1/nanobanana/record-info"
CREDIT_PATH = "/api/v1/common/credit"
SUBMIT_PATHS: dict[Model, str] = {
    Model.NANO_BANANA: "/api/v1/nanobanana/generate",
    Model.NANO_BANANA_PRO: "/api/v1/nanobanana/generate-pro",
    Model.NANO_BANANA_2: "/api/v1/nanobanana/generate-2",
}

# The vendor's spelling; the correct one is rejected.
WIRE_TYPES: dict[TaskType, str] = {
    TaskType.TEXT_TO_IMAGE: "TEXTTOIAMGE",
    TaskType.IMAGE_TO_IMAGE: "IMAGETOIAMGE",
}

# Our parameter names and the vendor's. Only `generate` calls the aspect ratio a size.
_COMMON_NAMES = {
    "num_images": "numImages",
    "watermark": "watermark",
    "resolution": "resolution",
    "google_search": "googleSearch",
    "output_format": "outputFormat",
    "aspect_ratio": "aspectRatio",
}
WIRE_NAMES: dict[Model, dict[str, str]] = {
    Model.NANO_BANANA: {**_COMMON_NAMES, "aspect_ratio": "image_size"},
    Model.NANO_BANANA_PRO: _COMMON_NAMES,
    Model.NANO_BANANA_2: _COMMON_NAMES,
}

FLAG_GENERATING, FLAG_SUCCESS, FLAG_CREATE_FAILED, FLAG_GENERATE_FAILED = 0, 1, 2, 3
"""Values of `successFlag` in record-info and in callbacks of generate-2."""


def submit_body(model: Model, task_input: dict[str, Any], callback_url: str) -> dict[str, Any]:
    """Build a submit's JSON body; parameters without values are omitted."""
    image_urls: list[str] = task_input["image_urls"]
    body: dict[str, Any] = {"prompt": task_input["prompt"], "callBackUrl": callback_url}
    if model is Model.NANO_BANANA:
        body["type"] = WIRE_TYPES[type_of(image_urls)]
    if image_urls:
        body["imageUrls"] = image_urls
    names = WIRE_NAMES[model]
    body.update({names[name]: value for name, value in task_input.items() if name in names and value is not None})
    return body
