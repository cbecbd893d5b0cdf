"""The upstream's models and their parameters."""

from dataclasses import dataclass

from app.domain.words import Word

_TEN_RATIOS = ("1:1", "9:16", "16:9", "3:4", "4:3", "3:2", "2:3", "5:4", "4:5", "21:9")
_FOURTEEN_RATIOS = ("1:1", "1:4", "1:8", "2:3", "3:2", "3:4", "4:1", "4:3", "4:5", "5:4", "8:1", "9:16", "16:9", "21:9")
_RESOLUTIONS = ("1K", "2K", "4K")


class Model(Word):
    """The models."""

    NANO_BANANA = "nano-banana"
    NANO_BANANA_PRO = "nano-banana-pro"
    NANO_BANANA_2 = "nano-banana-2"


class TaskType(Word):
    """Whether a task has input images."""

    TEXT_TO_IMAGE = "text_to_image"
    IMAGE_TO_IMAGE = "image_to_image"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model's parameters besides `prompt` and `image_urls`.

    `defaults` lists them in the order of responses; `choices` has the allowed values of enumerated ones.
    """

    max_input_images: int
    defaults: dict[str, str | int | bool | None]
    choices: dict[str, tuple[str, ...]]


SPECS: dict[Model, ModelSpec] = {
    Model.NANO_BANANA: ModelSpec(
        # The vendor documents no limit; this is the highest of the other models.
        max_input_images=14,
        defaults={"num_images": 1, "aspect_ratio": None, "watermark": None},
        choices={"aspect_ratio": _TEN_RATIOS},
    ),
    Model.NANO_BANANA_PRO: ModelSpec(
        max_input_images=8,
        defaults={"resolution": None, "aspect_ratio": None},
        choices={"resolution": _RESOLUTIONS, "aspect_ratio": (*_TEN_RATIOS, "auto")},
    ),
    Model.NANO_BANANA_2: ModelSpec(
        max_input_images=14,
        defaults={"aspect_ratio": None, "resolution": None, "google_search": None, "output_format": None},
        choices={
            "aspect_ratio": (*_FOURTEEN_RATIOS, "auto"),
            "resolution": _RESOLUTIONS,
            "output_format": ("png", "jpg"),
        },
    ),
}
"""Each model's parameters (see the vendor's documentation of generate, generate-pro and generate-2)."""

OPTIONAL_PARAMETERS: tuple[str, ...] = tuple(dict.fromkeys(name for spec in SPECS.values() for name in spec.defaults))
"""The parameters of all models, each once."""


def type_of(image_urls: list[str]) -> TaskType:
    """Return the task type implied by the input images."""
    return TaskType.IMAGE_TO_IMAGE if image_urls else TaskType.TEXT_TO_IMAGE
