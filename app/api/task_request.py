"""The body of `POST /v1/tasks`, checked against what the chosen model knows."""

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from app.api.body import WHOLE
from app.domain.data_uri import is_data_uri
from app.domain.models import OPTIONAL_PARAMETERS, SPECS, Model, TaskType, type_of
from app.services.tasks import Submission

MAX_PROMPT_CHARACTERS = 20_000
_MAX_URL_CHARACTERS = 4096
_MAX_METADATA_PAIRS = 16
_FEW = 100


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the NUL character")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _http_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        is_http = parts.scheme.lower() in {"http", "https"} and bool(parts.hostname)
        _ = parts.port  # raises ValueError for a port that is none
    except ValueError:
        is_http = False
    if not is_http or any(character.isspace() or ord(character) < 0x20 for character in text):  # noqa: PLR2004 -- ASCII
        raise ValueError("must be an http(s) URL")
    return text


# What the functions above say, for the API's document.
_NO_NUL: dict[str, Any] = {"pattern": r"^[^\x00]*$"}
_NOT_BLANK: dict[str, Any] = {"pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"}
_HTTP_URL: dict[str, Any] = {"format": "uri"}


def _tell_of_keys(schema: dict[str, Any]) -> None:
    """Say that other keys are refused; from a pattern of keys pydantic makes that others may have any value."""
    pairs = schema["anyOf"][0]
    pairs["additionalProperties"] = next(iter(pairs.pop("patternProperties").values()))
    pairs["propertyNames"] = {"minLength": 1, "maxLength": 128, **_NO_NUL}


Url = Annotated[
    str,
    Field(max_length=_MAX_URL_CHARACTERS, json_schema_extra=_HTTP_URL),
    AfterValidator(_no_nul),
    AfterValidator(_http_url),
]


def _image_url(text: str) -> str:
    if is_data_uri(text):
        return text  # what is in it is looked at when it is decoded
    if len(text) > _MAX_URL_CHARACTERS:
        raise ValueError(f"must have at most {_MAX_URL_CHARACTERS} characters")
    return _http_url(_no_nul(text))


def _few(value: object) -> object:
    if isinstance(value, list) and len(value) > _FEW:
        raise ValueError("has far too many entries")
    return value


ImageUrl = Annotated[str, Field(json_schema_extra=_HTTP_URL), AfterValidator(_image_url)]
# Before its entries are looked at: telling what is wrong with each of a hundred thousand takes seconds.
ImageUrls = Annotated[list[ImageUrl], BeforeValidator(_few)]
Prompt = Annotated[
    str,
    Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS, json_schema_extra=_NOT_BLANK),
    AfterValidator(_no_nul),
    AfterValidator(_not_blank),
]
Watermark = Annotated[str, Field(max_length=255, json_schema_extra=_NO_NUL), AfterValidator(_no_nul)]
MetadataKey = Annotated[str, Field(min_length=1, max_length=128, json_schema_extra=_NO_NUL), AfterValidator(_no_nul)]
MetadataValue = Annotated[str, Field(max_length=2048, json_schema_extra=_NO_NUL), AfterValidator(_no_nul)]


class TaskRequest(BaseModel):
    """A task to be made. Parameters that the chosen model lacks are refused, `null` is as good as left out."""

    model_config = ConfigDict(extra="forbid", strict=True)

    prompt: Prompt = Field(description="What to draw.", examples=["a lake at sunset"])
    model: Literal["nano-banana", "nano-banana-pro", "nano-banana-2"] | None = Field(
        None, description="`nano-banana` if left out."
    )
    type: Literal["text_to_image", "image_to_image"] | None = Field(
        None, description="Follows from `image_urls`; if given, it must agree."
    )
    image_urls: ImageUrls | None = Field(
        None,
        description="Input images: http(s) URLs, those of uploads too, or data URIs, which are turned into uploads.",
    )
    num_images: Annotated[int, Field(ge=1, le=4), WHOLE] | None = Field(None, description="nano-banana only.")
    aspect_ratio: str | None = Field(None, description="One of the model's.", examples=["16:9"])
    watermark: Watermark | None = Field(None, description="nano-banana only.")
    resolution: str | None = Field(None, description="nano-banana-pro and nano-banana-2: 1K, 2K or 4K.")
    output_format: str | None = Field(None, description="nano-banana-2 only: png or jpg.")
    google_search: bool | None = Field(None, description="nano-banana-2 only.")
    webhook_url: Url | None = Field(None, description="Told of the task's end, see docs/webhooks.md.")
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=_MAX_METADATA_PAIRS)] | None = Field(
        None,
        description="Up to 16 pairs of strings that come back with the task.",
        examples=[{"order": "42"}],
        json_schema_extra=_tell_of_keys,
    )

    @model_validator(mode="after")
    def _fits_the_model(self) -> Self:
        chosen = Model(self.model or Model.NANO_BANANA)
        spec = SPECS[chosen]
        wrong: list[tuple[str, str]] = []
        for name in OPTIONAL_PARAMETERS:
            value = getattr(self, name)
            if value is None:
                continue
            if name not in spec.defaults:
                wrong.append((name, f"{chosen.value} has no such parameter"))
            elif name in spec.choices and value not in spec.choices[name]:
                wrong.append((name, f"{chosen.value} allows {', '.join(spec.choices[name])}"))
        urls = self.image_urls or []
        if len(urls) > spec.max_input_images:
            wrong.append(("image_urls", f"{chosen.value} takes at most {spec.max_input_images} images"))
        follows = type_of(urls)
        if self.type is not None and self.type != follows.value:
            has = "image_urls has images" if follows is TaskType.IMAGE_TO_IMAGE else "there are no image_urls"
            wrong.append(("type", f"contradicts that {has}"))
        if wrong:
            raise _wrong_fields(wrong)
        return self

    @property
    def has_data_uris(self) -> bool:
        """Whether pictures came with the request itself."""
        return any(is_data_uri(url) for url in self.image_urls or ())

    def submission(self) -> Submission:
        """Return the task's own parameters, complete with defaults."""
        chosen = Model(self.model or Model.NANO_BANANA)
        task_input: dict[str, Any] = {"prompt": self.prompt, "image_urls": self.image_urls or []}
        for name, default in SPECS[chosen].defaults.items():
            given = getattr(self, name)
            task_input[name] = default if given is None else given
        return Submission(model=chosen, input=task_input, metadata=self.metadata or {}, webhook_url=self.webhook_url)


def _wrong_fields(wrong: list[tuple[str, str]]) -> ValidationError:
    """Report fields that are wrong only together, each under its own name."""
    details = [
        InitErrorDetails(type=PydanticCustomError("wrong_for_model", "{why}", {"why": why}), loc=(name,), input=None)
        for name, why in wrong
    ]
    return ValidationError.from_exception_data("TaskRequest", details)
