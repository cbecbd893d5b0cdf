"""Draws landscapes with the prompt on them, deterministically per request."""

import hashlib
import io
import json
import math
import random
import textwrap
from dataclasses import asdict, dataclass

from PIL import Image, ImageColor, ImageDraw, ImageFont

from app.sandbox import directives
from app.sandbox.orders import Order
from app.upstream.wire import WIRE_NAMES

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

Color = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """An image to draw; sizes are pixels at scale 1."""

    text: str
    number: int
    width: int
    height: int
    scale: int
    inputs: tuple[str, ...]
    watermark: str
    format: str


def drawing_of(order: Order, number: int) -> Drawing:
    """Return the n-th image of an order, counted from 1."""
    width, height = size(order.params.get(WIRE_NAMES[order.model]["aspect_ratio"]))
    return Drawing(
        text=directives.parse(order.prompt).text,
        number=number,
        width=width,
        height=height,
        scale=_SCALES[order.params.get("resolution", "1K")],
        inputs=order.image_urls,
        watermark=order.params.get("watermark", ""),
        format=order.output_format,
    )


def size(aspect_ratio: str | None) -> tuple[int, int]:
    """Return width and height of about one megapixel.

    The ratio is text such as `16:9`; `auto` and None are square.
    """
    ratio = "1:1" if aspect_ratio in {None, "auto"} else aspect_ratio
    across, down = (int(part) for part in ratio.split(":"))
    width = (_MEGAPIXEL * across / down) ** 0.5
    return round(width / _GRID) * _GRID, round(width * down / across / _GRID) * _GRID


def draw(drawing: Drawing) -> bytes:
    """Draw and encode an image; CPU-bound, slower at 4K."""
    seed = hashlib.sha256(json.dumps(asdict(drawing)).encode()).hexdigest()
    dice = random.Random(seed)  # noqa: S311 -- not for secrets
    image = _landscape(dice, drawing.width * _OVERSAMPLING, drawing.height * _OVERSAMPLING)
    image = image.resize((drawing.width * drawing.scale, drawing.height * drawing.scale), Image.Resampling.BICUBIC)
    inputs = f", input images: {len(drawing.inputs)}" if drawing.inputs else ""
    _write(image, f"SANDBOX #{drawing.number}{inputs}", max_width=0.44)
    _write(image, drawing.watermark, max_width=0.44, right=True)
    _write(image, drawing.text, max_width=0.9, bottom=True)
    encoded = io.BytesIO()
    # Light compression is faster.
    image.save(encoded, _FORMATS[drawing.format], compress_level=3, quality=90)
    return encoded.getvalue()


def _landscape(dice: random.Random, width: int, height: int) -> Image.Image:
    """Draw sky, sun and hills in matching colors."""
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
    return ImageColor.getrgb(f"hsv({hue % 1 * 360:.1f}, {saturation:.0%}, {value:.0%})")


def _mix(one: Color, other: Color, share: float) -> Color:
    """Blend two colors; `share` (0 to 1) weights the second."""
    return tuple(round(a + (b - a) * share) for a, b in zip(one, other, strict=True))


def _write(image: Image.Image, text: str, *, max_width: float, right: bool = False, bottom: bool = False) -> None:
    """Write text on a dark panel in a corner.

    The text is wrapped to `max_width`, a fraction of the image's width, and shortened if it is long.
    """
    unit = min((image.width * image.height) ** 0.5 / 28, image.width / 13, image.height / 9)
    # Pillow's own font, so that none has to be installed.
    font = ImageFont.load_default(size=unit if bottom else unit * 0.7)
    shown = _legible(text[:_MAX_CHARACTERS], font)
    if not shown:
        return
    columns = int(max_width * image.width * len(shown) / font.getlength(shown))
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
    """Drop characters the font lacks; a note if none remain."""
    missing = bytes(font.getmask(_MISSING))
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    shown = {c: c == " " or bytes(font.getmask(c)) != missing for c in set(plain)}
    legible = " ".join("".join(c for c in plain if shown[c]).split())
    return legible or ("(characters not in this font)" if plain else "")
