"""Pictures: what a task asked for, drawn; the same request gives the same bytes."""

import hashlib
import io
import json
import random
from dataclasses import asdict, dataclass

from PIL import Image

from app.sandbox import directives
from app.sandbox.lettering import Lettering
from app.sandbox.orders import Order
from app.sandbox.scenes import paint

_MEGAPIXEL = 1_048_576
_GRID = 8
_SCALES = {"1K": 1, "2K": 2, "4K": 4}
_FORMATS = {"png": "PNG", "jpg": "JPEG"}
MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg"}


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture to draw: `text` without directives, `width` and `height` in pixels at scale 1."""

    text: str
    number: int
    width: int
    height: int
    scale: int
    inputs: tuple[str, ...]
    watermark: str
    format: str

    @classmethod
    def of(cls, order: Order, number: int) -> "Picture":
        """Return the picture that stands for the n-th result of an order, counted from 1."""
        width, height = size(order.aspect_ratio)
        return cls(
            text=directives.parse(order.prompt).text,
            number=number,
            width=width,
            height=height,
            scale=_SCALES[order.resolution or "1K"],
            inputs=order.image_urls,
            watermark=order.watermark or "",
            format=order.output_format,
        )


def size(aspect_ratio: str | None) -> tuple[int, int]:
    """Width and height in pixels, about a megapixel, of a ratio such as `16:9`; `auto` and None are square."""
    ratio = "1:1" if aspect_ratio is None or aspect_ratio == "auto" else aspect_ratio
    across, down = (int(part) for part in ratio.split(":"))
    width = (_MEGAPIXEL * across / down) ** 0.5
    return round(width / _GRID) * _GRID, round(width * down / across / _GRID) * _GRID


def draw(picture: Picture) -> bytes:
    """Draw a picture, encoded in its format. Takes a fraction of a second, some seconds at 4K."""
    seed = hashlib.sha256(json.dumps(asdict(picture)).encode()).hexdigest()
    image = paint(random.Random(seed), picture.width, picture.height)  # noqa: S311 -- play, not secrecy
    if picture.scale > 1:
        larger = (picture.width * picture.scale, picture.height * picture.scale)
        image = image.resize(larger, Image.Resampling.BICUBIC)
    lettering = Lettering(image)
    lettering.caption(picture.text)
    count = len(picture.inputs)
    inputs = f" / {count} input image{'s' if count > 1 else ''}" if count else ""
    lettering.mark(f"SANDBOX #{picture.number}{inputs}")
    lettering.watermark(picture.watermark)
    encoded = io.BytesIO()
    # Little compression: the time counts, not the bytes.
    image.save(
        encoded, _FORMATS[picture.format], **({"compress_level": 3} if picture.format == "png" else {"quality": 90})
    )
    return encoded.getvalue()
