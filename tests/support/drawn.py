"""Pictures for tests: small, whole, and each another."""

import io
import random

from PIL import Image


def drawn(*, seed: int = 0, width: int = 64, height: int = 48, kind: str = "PNG") -> bytes:
    """Return a picture of noise, so that its bytes are about as many as its pixels."""
    noise = random.Random(seed).randbytes(width * height * 3)
    target = io.BytesIO()
    Image.frombytes("RGB", (width, height), noise).save(target, kind)
    return target.getvalue()
