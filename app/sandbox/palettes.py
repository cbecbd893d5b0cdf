"""Palettes: five colours that go together, from far to near and one that stands out."""

import random
from dataclasses import dataclass

from PIL import ImageColor

Colour = tuple[int, int, int]

# High sky, low sky, far, near, accent.
_PALETTES = (
    ("#1d3461", "#f4a259", "#8c5e7d", "#1b1b3a", "#fff1d0"),
    ("#3a86c8", "#d7ecf5", "#7fa99b", "#1f4e4a", "#ffd166"),
    ("#0b1a3b", "#4b6a9b", "#33507a", "#0a1426", "#f2efe0"),
    ("#f28482", "#f7ede2", "#84a59d", "#3d5a52", "#f6bd60"),
    ("#5f0f40", "#fb8b24", "#9a031e", "#2a0a22", "#ffe3b3"),
    ("#2a9d8f", "#e9f5db", "#6fb3a2", "#1d3f45", "#f4d35e"),
    ("#6d597a", "#eaac8b", "#b56576", "#2f2b45", "#fde2c4"),
    ("#023047", "#8ecae6", "#219ebc", "#01202f", "#ffb703"),
    ("#7b9e89", "#f1e3c6", "#b5895b", "#4a3b2a", "#e4572e"),
    ("#3d2c5e", "#e7a7c5", "#8f6fb0", "#241a3a", "#fff4c9"),
    ("#c8553d", "#ffe6c7", "#d98f6c", "#58291f", "#fffaf0"),
    ("#14342b", "#bbdfc5", "#60935d", "#0f241d", "#fbe8a6"),
)
_SHIFT = 14


@dataclass(frozen=True, slots=True)
class Palette:
    """The colours of one picture, RGB."""

    high: Colour
    low: Colour
    far: Colour
    near: Colour
    accent: Colour

    def depth(self, part: float) -> Colour:
        """Return a colour between far (0) and near (1)."""
        return mix(self.far, self.near, part)

    @property
    def all(self) -> tuple[Colour, ...]:
        """The five of them."""
        return (self.high, self.low, self.far, self.near, self.accent)


def pick(dice: random.Random) -> Palette:
    """Draw a palette, and shift it a little, so that few pictures share one."""
    shift = [dice.randint(-_SHIFT, _SHIFT) for _ in range(3)]
    names = dice.choice(_PALETTES)
    high, low, far, near, accent = (_shifted(ImageColor.getrgb(name), shift) for name in names)
    return Palette(high, low, far, near, accent)


def mix(one: Colour, other: Colour, part: float) -> Colour:
    """Blend two colours; `part` of the other, 0 to 1."""
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return (red, green, blue)


def _shifted(colour: tuple[int, ...], shift: list[int]) -> Colour:
    red, green, blue = (min(255, max(0, value + change)) for value, change in zip(colour, shift, strict=False))
    return (red, green, blue)
