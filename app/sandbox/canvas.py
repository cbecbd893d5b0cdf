"""A canvas: the few strokes of which the sandbox's scenes are made, edges smoothed."""

import math
import random

from PIL import Image, ImageChops, ImageDraw

from app.sandbox.palettes import Colour

_OVERSAMPLING = 2
_TAU = 2 * math.pi


class Canvas:
    """A picture being drawn. Coordinates are parts of the width and height; lengths are parts of the shorter side."""

    def __init__(self, width: int, height: int) -> None:
        self._final = (width, height)
        # Pillow draws hard edges; drawing larger and shrinking softens them.
        self.width, self.height = width * _OVERSAMPLING, height * _OVERSAMPLING
        self.short = min(self.width, self.height)
        self.aspect = width / height
        self._image = Image.new("RGB", (self.width, self.height))
        self._pen = ImageDraw.Draw(self._image)

    def done(self) -> Image.Image:
        """Return the finished picture."""
        return self._image.resize(self._final, Image.Resampling.BOX)

    def gradient(self, top: Colour, bottom: Colour, begin: float = 0.0, end: float = 1.0) -> None:
        """Fill the rows from `begin` to `end` with a vertical gradient."""
        first, last = round(begin * self.height), round(end * self.height)
        size = (self.width, last - first)
        mask = Image.linear_gradient("L").resize(size)
        self._image.paste(
            Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), mask), (0, first)
        )

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """Draw a filled circle."""
        self._pen.ellipse(self._box(x, y, radius), fill=colour)

    def ring(self, x: float, y: float, radius: float, colour: Colour, thickness: float) -> None:
        """Draw a circle's outline."""
        self._pen.ellipse(self._box(x, y, radius), outline=colour, width=max(2, round(thickness * self.short)))

    def glow(self, x: float, y: float, radius: float, colour: Colour, strength: float) -> None:
        """Put light around a point, fading out; `strength` from 0 to 1."""
        left, top, right, bottom = (round(value) for value in self._box(x, y, radius))
        light = ImageChops.invert(Image.radial_gradient("L")).point(lambda value: max(0.0, value - 75) * 1.4 * strength)
        mask = light.resize((right - left, bottom - top))
        self._image.paste(colour, (left, top, right, bottom), mask)

    def polygon(self, points: list[tuple[float, float]], colour: Colour) -> None:
        """Draw a filled polygon."""
        self._pen.polygon([(x * self.width, y * self.height) for x, y in points], fill=colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """Draw a filled rectangle."""
        corners = (left * self.width, top * self.height, right * self.width, bottom * self.height)
        self._pen.rectangle(corners, fill=colour)

    def pill(self, x: float, y: float, length: float, thickness: float, colour: Colour) -> None:
        """Draw a horizontal stroke with round ends, centred; `length` is a part of the width."""
        half, high = length * self.width / 2, thickness * self.short / 2
        cx, cy = x * self.width, y * self.height
        self._pen.rounded_rectangle((cx - half, cy - high, cx + half, cy + high), radius=high, fill=colour)

    def pie(self, x: float, y: float, radius: float, start: int, colour: Colour) -> None:
        """Draw a quarter of a disc from `start` degrees on."""
        self._pen.pieslice(self._box(x, y, radius), start, start + 90, fill=colour)

    def ridge(self, dice: random.Random, base: float, swing: float, roughness: int, colour: Colour) -> None:
        """Fill everything below a wavy line around `base`, up and down by about `swing`."""
        waves = [
            (swing / (n + 1), self.aspect * dice.uniform(0.5, 1.1) * (n + 1), dice.random()) for n in range(roughness)
        ]
        line = []
        for step in range(401):
            x = step / 400
            y = base + sum(size * math.sin(_TAU * (pace * x + phase)) for size, pace, phase in waves)
            line.append((x, y))
        self.polygon([(0, 1), *line, (1, 1)], colour)

    def _box(self, x: float, y: float, radius: float) -> tuple[float, float, float, float]:
        cx, cy, r = x * self.width, y * self.height, radius * self.short
        return (cx - r, cy - r, cx + r, cy + r)
