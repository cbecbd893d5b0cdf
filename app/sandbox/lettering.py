"""Lettering: the words on a picture, on panels that keep them legible whatever lies below."""

import unicodedata
from bisect import bisect_right

from PIL import Image, ImageDraw, ImageFont

_MAX_LINES = 4
_LEGIBLE = 0.6
_DARK, _LIGHT = (12, 14, 24, 176), (255, 255, 255, 255)
_MISSING = "\uffff"
_ELLIPSIS = "..."


class Lettering:
    """Words for one picture, in the scalable font that comes with Pillow, so no system font is needed."""

    def __init__(self, picture: Image.Image) -> None:
        self._picture = picture
        self._width, self._height = picture.size
        # Grows with the picture, yet leaves room for some words on a very narrow or very flat one.
        self._unit = min((self._width * self._height) ** 0.5 / 28, self._width / 13, self._height / 9)
        self._margin = round(self._unit * 0.9)

    def caption(self, text: str) -> None:
        """Write the prompt along the bottom: wrapped, shortened when long."""
        font = _font(self._unit)
        room = min(self._width - 4 * self._margin, round(self._unit * 34))
        lines = _wrap(legible(text, font), font, room)
        if lines:
            self._panel("\n".join(lines), font, right=False, bottom=True)

    def mark(self, text: str) -> None:
        """Write a small mark in the upper left corner."""
        self._panel(text, _font(self._unit * 0.6), right=False, bottom=False)

    def watermark(self, text: str) -> None:
        """Write the watermark in the upper right corner, opposite to the mark."""
        font = _font(self._unit * 0.8)
        lines = _wrap(legible(text, font), font, round(self._width * 0.45))[:1]
        if lines:
            self._panel(lines[0], font, right=True, bottom=False)

    def _panel(self, text: str, font: ImageFont.FreeTypeFont, *, right: bool, bottom: bool) -> None:
        pad = round(font.size * 0.55)
        pen = ImageDraw.Draw(self._picture, "RGBA")
        left, top, end, base = pen.multiline_textbbox((0, 0), text, font=font, spacing=font.size * 0.3)
        width, height = round(end - left) + 2 * pad, round(base - top) + 2 * pad
        x = self._width - self._margin - width if right else self._margin
        y = self._height - self._margin - height if bottom else self._margin
        pen.rounded_rectangle((x, y, x + width, y + height), radius=pad, fill=_DARK)
        pen.multiline_text((x + pad - left, y + pad - top), text, font=font, fill=_LIGHT, spacing=font.size * 0.3)


def legible(text: str, font: ImageFont.FreeTypeFont) -> str:
    """Return what of a text the font can show; a few words about the text when that is too little of it."""
    plain = " ".join("".join(c if unicodedata.category(c)[0] != "C" else " " for c in text).split())
    missing = _shape(font, _MISSING)
    shown = {c: c.isspace() or _shape(font, c) != missing for c in set(plain)}
    kept = sum(shown[c] for c in plain)
    if kept < len(plain) * _LEGIBLE:
        return f"({len(plain)} characters in letters that this font lacks)"
    return " ".join("".join(c for c in plain if shown[c]).split())


def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=max(8.0, size))
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise OSError("This Pillow was built without FreeType, which the sandbox needs to write on pictures.")
    return font


def _shape(font: ImageFont.FreeTypeFont, character: str) -> bytes:
    return bytes(font.getmask(character))


def _wrap(text: str, font: ImageFont.FreeTypeFont, room: float) -> list[str]:
    """Break a text into at most four lines no longer than `room` pixels; what is left over becomes an ellipsis."""
    lines: list[str] = []
    # More than this never fits, and measuring it would take long.
    words = text[:1000].split()
    while words and len(lines) < _MAX_LINES:
        line, words = _line(words, font, room)
        lines.append(line)
    if words or len(text) > 1000:  # noqa: PLR2004 -- see above
        while lines[-1] and font.getlength(lines[-1] + _ELLIPSIS) > room:
            lines[-1] = lines[-1][:-1]
        lines[-1] = lines[-1].rstrip() + _ELLIPSIS
    return lines


def _line(words: list[str], font: ImageFont.FreeTypeFont, room: float) -> tuple[str, list[str]]:
    line = ""
    for number, word in enumerate(words):
        longer = f"{line} {word}".strip()
        if font.getlength(longer) > room:
            if line:
                return line, words[number:]
            # A word longer than the line is cut.
            cut = max(1, bisect_right(range(len(word)), room, key=lambda n: font.getlength(word[:n])) - 1)
            return word[:cut], [word[cut:], *words[number + 1 :]]
        line = longer
    return line, []
