"""The body of `POST /v1/tasks`, validated against the chosen model."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from app.domain.data_uri import is_data_uri
from app.domain.models import OPTIONAL_PARAMETERS, SPECS, Model, TaskType, type_of
from app.domain.submission import Submission
from app.web.json_body import WHOLE, RequestModel

MAX_PROMPT_CHARACTERS = 20_000
_MAX_URL_CHARACTERS = 4096
_MAX_METADATA_PAIRS = 16
_MAX_LISTED_URLS = 100
# Invisible, or interpreted differently by different programs.
_BAD_IN_URLS = re.compile(r"[\s\\\x00-\x1f\x7f-\xa0\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]")


def _no_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the NUL character")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


def _http_url(text: str) -> str:
    if bad := _BAD_IN_URLS.search(text):
        name = unicodedata.name(bad[0], "a control character")
        raise ValueError(f"contains {name} (U+{ord(bad[0]):04X}) at position {bad.start() + 1}; remove or escape it")
    try:
        parts = urlsplit(text)
        is_http = parts.scheme.lower() in {"http", "https"} and bool(parts.hostname)
        _ = parts.port  # raises ValueError for an invalid port
    except ValueError:
        is_http = False
    if not is_http:
        raise ValueError("must be an http(s) URL")
    return text


# The same checks for the OpenAPI document.
_NO_NUL: dict[str, Any] = {"pattern": r"^[^\x00]*$"}
_NOT_BLANK: dict[str, Any] = {"pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"}
_HTTP_URL: dict[str, Any] = {"format": "uri"}


def _describe_keys(schema: dict[str, Any]) -> None:
    """Forbid other keys, which Pydantic's schema would allow."""
    pairs = schema["anyOf"][0]
    pairs["additionalProperties"] = next(iter(pairs.pop("patternProperties").values()))
    pairs["propertyNames"] = {"minLength": 1, "maxLength": 128, **_NO_NUL}


Url = Annotated[str, Field(max_length=_MAX_URL_CHARACTERS, json_schema_extra=_HTTP_URL), AfterValidator(_http_url)]


def _image_url(text: str) -> str:
    if is_data_uri(text):
        return text  # validated when decoded
    if len(text) > _MAX_URL_CHARACTERS:
        raise ValueError(f"must have at most {_MAX_URL_CHARACTERS} characters")
    return _http_url(text)


def _limited(value: object) -> object:
    if isinstance(value, list) and len(value) > _MAX_LISTED_URLS:
        raise ValueError(f"must have at most {_MAX_LISTED_URLS} entries")
    return value


ImageUrl = Annotated[str, Field(json_schema_extra=_HTTP_URL), AfterValidator(_image_url)]
# Checked before the entries, because listing the errors of 100,000 entries would take seconds.
ImageUrls = Annotated[list[ImageUrl], BeforeValidator(_limited)]
Prompt = Annotated[
    str,
    Field(min_length=1, max_length=MAX_PROMPT_CHARACTERS, json_schema_extra=_NOT_BLANK),
    AfterValidator(_no_nul),
    AfterValidator(_not_blank),
]
Watermark = Annotated[str, Field(max_length=255, json_schema_extra=_NO_NUL), AfterValidator(_no_nul)]
MetadataKey = Annotated[str, Field(min_length=1, max_length=128, json_schema_extra=_NO_NUL), AfterValidator(_no_nul)]
MetadataValue = Annotated[str, Field(max_length=2048, json_schema_extra=_NO_NUL), AfterValidator(_no_nul)]


class TaskRequest(RequestModel):
    """A task to submit.

    Parameters that the model doesn't support are errors. `null` is the same as omitting the field.
    """

    synonyms: ClassVar[Mapping[str, str]] = {
        "callBackUrl": "webhook_url",
        "image": "image_urls",
        "image_size": "aspect_ratio",
        "images": "image_urls",
        "n": "num_images",
        "size": "aspect_ratio",
    }

    prompt: Prompt = Field(description="The image to generate, in words.", examples=["a lake at sunset"])
    model: Literal["nano-banana", "nano-banana-pro", "nano-banana-2"] | None = Field(
        None, description="The model; `nano-banana` if omitted."
    )
    type: Literal["text_to_image", "image_to_image"] | None = Field(
        None, description="Follows from `image_urls`; if given, it must match."
    )
    image_urls: ImageUrls | None = Field(
        None,
        description="Input images: http(s) URLs, including those of uploads, or data URIs, which become uploads.",
    )
    num_images: Annotated[int, Field(ge=1, le=4), WHOLE] | None = Field(
        None, description="How many images to generate."
    )
    aspect_ratio: str | None = Field(None, description="Width to height.", examples=["16:9"])
    watermark: Watermark | None = Field(None, description="Text to put on the images.")
    resolution: str | None = Field(None, description="Size of the images.")
    output_format: str | None = Field(None, description="File format of the images.")
    google_search: bool | None = Field(None, description="Whether the model may search the web.")
    webhook_url: Url | None = Field(None, description="Receives a signed request when the task finishes.")
    metadata: Annotated[dict[MetadataKey, MetadataValue], Field(max_length=_MAX_METADATA_PAIRS)] | None = Field(
        None,
        description="Up to 16 string pairs that are returned with the task.",
        examples=[{"order": "42"}],
        json_schema_extra=_describe_keys,
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
                wrong.append((name, f"not supported by {chosen.value}"))
            elif name in spec.choices and value not in spec.choices[name]:
                wrong.append((name, f"{chosen.value} allows {', '.join(spec.choices[name])}"))
        urls = self.image_urls or []
        if len(urls) > spec.max_input_images:
            wrong.append(("image_urls", f"{chosen.value} allows at most {spec.max_input_images} images"))
        follows = type_of(urls)
        if self.type is not None and self.type != follows.value:
            has = "has images" if follows is TaskType.IMAGE_TO_IMAGE else "is empty"
            wrong.append(("type", f"must be {follows.value}, as image_urls {has}"))
        if wrong:
            raise _wrong_fields(wrong)
        return self

    @property
    def has_data_uris(self) -> bool:
        """Whether the request itself contains images."""
        return any(is_data_uri(url) for url in self.image_urls or ())

    def submission(self) -> Submission:
        """Return what to submit, including the model's defaults."""
        chosen = Model(self.model or Model.NANO_BANANA)
        given = self.model_dump(include={*SPECS[chosen].defaults}, exclude_none=True)
        task_input = {"prompt": self.prompt, "image_urls": self.image_urls or [], **SPECS[chosen].defaults, **given}
        return Submission(model=chosen, input=task_input, metadata=self.metadata or {}, webhook_url=self.webhook_url)


def _wrong_fields(wrong: list[tuple[str, str]]) -> ValidationError:
    """Report fields that don't fit the model or each other."""
    details = [
        InitErrorDetails(type=PydanticCustomError("wrong_for_model", "{why}", {"why": why}), loc=(name,), input=None)
        for name, why in wrong
    ]
    return ValidationError.from_exception_data("TaskRequest", details)
