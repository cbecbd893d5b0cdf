"""Scenes: what the sandbox paints when asked for a picture of anything."""

import math
import random
from collections.abc import Callable

from PIL import Image

from app.sandbox.canvas import Canvas
from app.sandbox.palettes import Palette, mix, pick


def paint(dice: random.Random, width: int, height: int) -> Image.Image:
    """Paint a scene, RGB, of this size in pixels; the same dice paint the same."""
    palette = pick(dice)
    canvas = Canvas(width, height)
    dice.choice(_SCENES)(canvas, dice, palette)
    return canvas.done()


def _hills(canvas: Canvas, dice: random.Random, palette: Palette) -> None:
    canvas.gradient(palette.high, palette.low, 0, 0.7)
    x, y, radius = dice.uniform(0.2, 0.8), dice.uniform(0.2, 0.42), dice.uniform(0.07, 0.13)
    canvas.glow(x, y, radius * 4.5, palette.accent, 0.8)
    canvas.disc(x, y, radius, palette.accent)
    layers = dice.randint(5, 7)
    for layer in range(layers):
        part = layer / (layers - 1)
        colour = mix(palette.low, palette.depth(part), 0.35 + 0.65 * part)
        canvas.ridge(dice, 0.48 + 0.44 * part, 0.05 + 0.02 * dice.random(), 3, colour)


def _sea(canvas: Canvas, dice: random.Random, palette: Palette) -> None:
    horizon = dice.uniform(0.48, 0.58)
    canvas.gradient(palette.high, palette.low, 0, horizon)
    x, radius = dice.uniform(0.3, 0.7), dice.uniform(0.13, 0.2)
    canvas.glow(x, horizon, radius * 3.6, palette.accent, 0.85)
    canvas.disc(x, horizon - radius * 0.25 * min(1.0, canvas.aspect), radius, palette.accent)
    for _ in range(dice.randint(3, 6)):
        cloud = mix(palette.low, palette.accent, dice.uniform(0.2, 0.6))
        cx, cy, length = dice.random(), dice.uniform(0.08, 0.36), dice.uniform(0.1, 0.26)
        canvas.pill(cx, cy, length, 0.018, cloud)
        canvas.pill(cx + dice.uniform(-0.06, 0.06), cy + 0.02, length * 0.6, 0.018, cloud)
    canvas.gradient(mix(palette.low, palette.far, 0.6), palette.near, horizon, 1)
    for row in range(16):
        depth = row / 15
        y = horizon + 0.015 + (0.97 - horizon) * depth**1.3
        shine = mix(palette.accent, palette.far, 0.15 + 0.55 * depth)
        spread = radius * (0.5 + depth) / max(1.0, canvas.aspect)
        canvas.pill(
            x + dice.uniform(-0.3, 0.3) * spread, y, spread * dice.uniform(0.7, 1.7), 0.006 + 0.008 * depth, shine
        )


def _peaks(canvas: Canvas, dice: random.Random, palette: Palette) -> None:
    canvas.gradient(mix(palette.high, palette.near, 0.55), mix(palette.low, palette.high, 0.25))
    for _ in range(140):
        canvas.disc(dice.random(), dice.random() ** 1.6 * 0.6, dice.uniform(0.0008, 0.0026), palette.accent)
    x, y = dice.uniform(0.15, 0.85), dice.uniform(0.16, 0.26)
    canvas.glow(x, y, 0.3, palette.accent, 0.5)
    canvas.disc(x, y, 0.065, palette.accent)
    count = max(1, round(4 * canvas.aspect))
    for layer in range(3):
        colour = palette.depth(layer / 2)
        for n in range(count + 1):
            half = dice.uniform(0.5, 0.95) / count
            top, middle = 0.36 + 0.15 * layer + dice.uniform(0, 0.14), (n + dice.uniform(-0.35, 0.35)) / count
            canvas.polygon([(middle - half, 1), (middle, top), (middle + half, 1)], colour)
            _snow(canvas, middle, top, half, mix(colour, palette.accent, 0.75 - 0.25 * layer))


def _snow(canvas: Canvas, middle: float, top: float, half: float, colour: tuple[int, int, int]) -> None:
    slope, deep = half / (1 - top), (1 - top) * 0.2
    low, edge = top + deep, slope * deep
    zigzag = [(middle + edge, low), (middle + edge * 0.4, low - deep * 0.22), (middle, low + deep * 0.12)]
    canvas.polygon([(middle, top), *zigzag, (middle - edge * 0.45, low - deep * 0.25), (middle - edge, low)], colour)


def _tiles(canvas: Canvas, dice: random.Random, palette: Palette) -> None:
    side = max(2, round(6 * min(1.0, canvas.aspect)))
    columns = max(side, round(side * canvas.aspect)) if canvas.aspect >= 1 else side
    rows = max(2, round(columns / canvas.aspect))
    width, height = 1 / columns, 1 / rows
    for column in range(columns):
        for row in range(rows):
            x, y = column * width, row * height
            back, front, third = dice.sample(palette.all, 3)
            canvas.box(x, y, x + width, y + height, back)
            radius = min(width * canvas.width, height * canvas.height) / canvas.short
            corner = dice.randrange(4)
            cx, cy = x + (width if corner in {1, 2} else 0), y + (height if corner in {2, 3} else 0)
            kind = dice.randrange(4)
            if kind == 0:
                canvas.disc(x + width / 2, y + height / 2, radius * 0.36, front)
                canvas.disc(x + width / 2, y + height / 2, radius * 0.16, third)
            elif kind == 1:
                canvas.polygon([(x, y), (x + width, y), (x, y + height)], front)
            else:
                canvas.pie(cx, cy, radius, 90 * corner, front)
                canvas.pie(cx, cy, radius * 0.5, 90 * corner, third if kind == 2 else back)  # noqa: PLR2004 -- the third kind


def _planets(canvas: Canvas, dice: random.Random, palette: Palette) -> None:
    canvas.gradient(mix(palette.near, palette.high, 0.2), mix(palette.high, palette.near, 0.25))
    for _ in range(170):
        canvas.disc(
            dice.random(), dice.random(), dice.uniform(0.0008, 0.003), mix(palette.accent, palette.low, dice.random())
        )
    x, y = dice.uniform(0.38, 0.62), dice.uniform(0.36, 0.48)
    canvas.glow(x, y, 0.62, palette.low, 0.75)
    canvas.disc(x, y, dice.uniform(0.09, 0.12), palette.accent)
    reach = 0.17
    for _ in range(dice.randint(4, 6)):
        reach += dice.uniform(0.06, 0.11)
        canvas.ring(x, y, reach, mix(palette.high, palette.low, 0.45), 0.0022)
        angle, size = dice.uniform(0, 2 * math.pi), dice.uniform(0.016, 0.042)
        px = x + reach * math.cos(angle) * canvas.short / canvas.width
        py = y + reach * math.sin(angle) * canvas.short / canvas.height
        colour = dice.choice([palette.far, palette.low, palette.accent, mix(palette.far, palette.accent, 0.4)])
        canvas.disc(px, py, size, mix(colour, palette.near, 0.35))
        canvas.disc(
            px - size * 0.14 * canvas.short / canvas.width,
            py - size * 0.14 * canvas.short / canvas.height,
            size * 0.8,
            colour,
        )
        if dice.random() < 0.35:  # noqa: PLR2004 -- a third of the planets
            canvas.ring(px, py, size * 1.5, colour, 0.004)


_SCENES: tuple[Callable[[Canvas, random.Random, Palette], None], ...] = (_hills, _sea, _peaks, _tiles, _planets)
