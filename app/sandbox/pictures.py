"""Generated images: a landscape with the prompt written on it; the same request gives the same bytes."""

import colorsys
import hashlib
import io
import json
import math
import random
import textwrap
from dataclasses import asdict, dataclass

from PIL import Image, ImageDraw, ImageFont

from app.sandbox import directives
from app.sandbox.orders import Order

_MEGAPIXEL = 1_048_576
_GRID = 8
_SCALES = {"1K": 1, "2K": 2, "4K": 4}
_FORMATS = {"png": "PNG", "jpg": "JPEG"}
MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg"}
# Pillow draws hard edges. Drawing larger and shrinking smooths them.
_OVERSAMPLING = 2
_HILLS = 5
_MAX_CHARACTERS = 1000
_MISSING = "\uffff"

Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image to draw: `text` is the prompt without directives, `width` and `height` are in pixels at scale 1."""

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
        """Return the n-th result of an order, counted from 1."""
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
    """Return about a megapixel of a ratio such as `16:9`, as width and height; `auto` and None are square."""
    ratio = "1:1" if aspect_ratio is None or aspect_ratio == "auto" else aspect_ratio
    across, down = (int(part) for part in ratio.split(":"))
    width = (_MEGAPIXEL * across / down) ** 0.5
    return round(width / _GRID) * _GRID, round(width * down / across / _GRID) * _GRID


def draw(picture: Picture) -> bytes:
    """Draw and encode an image. Takes a fraction of a second, more at 4K."""
    seed = hashlib.sha256(json.dumps(asdict(picture)).encode()).hexdigest()
    dice = random.Random(seed)  # noqa: S311 -- play, not secrecy
    image = _landscape(dice, picture.width * _OVERSAMPLING, picture.height * _OVERSAMPLING)
    image = image.resize((picture.width * picture.scale, picture.height * picture.scale), Image.Resampling.BICUBIC)
    inputs = f", input images: {len(picture.inputs)}" if picture.inputs else ""
    _write(image, f"SANDBOX #{picture.number}{inputs}", room=0.44)
    _write(image, picture.watermark, room=0.44, right=True)
    _write(image, picture.text, room=0.9, bottom=True)
    encoded = io.BytesIO()
    # Little compression: the time counts, not the bytes.
    image.save(encoded, _FORMATS[picture.format], compress_level=3, quality=90)
    return encoded.getvalue()


def _landscape(dice: random.Random, width: int, height: int) -> Image.Image:
    """Draw sky, sun and hills in colors that go together."""
    hue = dice.random()
    sky, horizon = _color(hue, 0.65, 0.45), _color(hue + dice.uniform(0.3, 0.6), 0.3, 1.0)
    ground, sun = _color(hue + 0.05, 0.6, 0.15), _color(dice.uniform(0.08, 0.16), 0.25, 1.0)
    shading = Image.linear_gradient("L").resize((width, height))
    image = Image.composite(Image.new("RGB", shading.size, horizon), Image.new("RGB", shading.size, sky), shading)
    pen = ImageDraw.Draw(image)
    center, radius = (width * dice.uniform(0.2, 0.8), height * dice.uniform(0.25, 0.4)), min(width, height) / 10
    pen.circle(center, radius * 1.3, fill=_mix(horizon, sun, 0.5))
    pen.circle(center, radius, fill=sun)
    for hill in range(1, _HILLS + 1):
        line = _ridge(dice, width, height, height * (0.4 + 0.1 * hill))
        pen.polygon([(0, height), *line, (width, height)], fill=_mix(horizon, ground, hill / _HILLS))
    return image


def _ridge(dice: random.Random, width: int, height: int, base: float) -> list[tuple[float, float]]:
    """Return the points of a wavy line around `base`."""
    waves = [
        (height * 0.05 / n, math.tau * n * dice.uniform(0.5, 1.1) / height, math.tau * dice.random()) for n in (1, 2, 3)
    ]
    step = max(1, width // 400)
    return [
        (x, base + sum(swing * math.sin(pace * x + phase) for swing, pace, phase in waves))
        for x in range(0, width + step, step)
    ]


def _color(hue: float, saturation: float, value: float) -> Color:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue % 1, saturation, value))
    return red, green, blue


def _mix(one: Color, other: Color, part: float) -> Color:
    """Blend two colors; `part` of the other, 0 to 1."""
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _write(image: Image.Image, text: str, *, room: float, right: bool = False, bottom: bool = False) -> None:
    """Write a text on a dark panel in a corner: wrapped to `room` (a part of the width), shortened if long."""
    unit = min((image.width * image.height) ** 0.5 / 28, image.width / 13, image.height / 9)
    # The scalable font that comes with Pillow, so that none need be installed.
    font = ImageFont.load_default(size=unit if bottom else unit * 0.7)
    shown = _legible(text[:_MAX_CHARACTERS], font)
    if not shown:
        return
    columns = int(room * image.width * len(shown) / font.getlength(shown))
    words = textwrap.fill(shown, max(columns, 4), max_lines=4 if bottom else 1, placeholder="...")
    pen = ImageDraw.Draw(image, "RGBA")
    left, top, end, base = pen.multiline_textbbox((0, 0), words, font=font)
    pad = unit / 2
    width, height = end - left + 2 * pad, base - top + 2 * pad
    x = image.width - unit - width if right else unit
    y = image.height - unit - height if bottom else unit
    pen.rounded_rectangle((x, y, x + width, y + height), radius=pad, fill=(12, 14, 24, 176))
    pen.multiline_text((x + pad - left, y + pad - top), words, font=font, fill="white")


def _legible(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Return what the font can show of a text, or a note if it can show nothing of it."""
    missing = bytes(font.getmask(_MISSING))
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    shown = {c: c == " " or bytes(font.getmask(c)) != missing for c in set(plain)}
    legible = " ".join("".join(c for c in plain if shown[c]).split())
    return legible or ("(in letters that this font lacks)" if plain else "")
