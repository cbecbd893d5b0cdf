"""Thumbnails of images."""

import io
from pathlib import Path

from PIL import Image

from app.imaging.inspect import decoder, opened, read_layout
from app.imaging.layout import BadImage, Layout

_QUALITY = 80
# Limits very tall images: WebP allows at most 16,383 pixels.
_MAX_HEIGHT_TIMES_WIDTH = 4
_MAX_PROFILE_BYTES = 64 * 1024
_DEEP_GRAYS = ("I", "I;16", "I;16L", "I;16B", "I;16N")
_ROTATIONS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_270,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_90,),
}


def thumbnail(path: Path, width: int) -> bytes:
    """Make an upright WebP, at most `width` pixels wide.

    The file must have passed `inspect`; raises `BadImage` if it still can't be decoded.
    """
    with opened(path) as data:
        kind, layout = read_layout(data)
        try:
            with decoder(data, kind, layout) as image:
                return _scaled(image, layout, width)
        except Exception as error:  # as in `inspect`
            raise BadImage(f"can't be decoded as {kind}") from error


def _scaled(image: Image.Image, layout: Layout, width: int) -> bytes:
    height = width * _MAX_HEIGHT_TIMES_WIDTH
    # Decodes a JPEG at about the needed size. Rotation comes later, when the image is small.
    image.thumbnail((height, width) if layout.is_rotated else (width, height))
    profile = image.info.get("icc_profile")
    small = _displayable(image)
    for rotation in _ROTATIONS.get(layout.orientation, ()):
        small = small.transpose(rotation)
    kept = profile if image.mode.startswith("RGB") and len(profile or b"") <= _MAX_PROFILE_BYTES else None
    target = io.BytesIO()
    small.save(target, "WEBP", quality=_QUALITY, icc_profile=kept or b"")
    return target.getvalue()


def _displayable(image: Image.Image) -> Image.Image:
    """Convert an image to a mode that WebP supports."""
    if image.mode in _DEEP_GRAYS:
        return image.convert("I").point(lambda value: value / 256).convert("L").convert("RGB")
    if image.mode in {"RGB", "RGBA"}:
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")
