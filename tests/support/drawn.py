"""Pictures as sources have them: whole, and each another."""

from tests.support.pictures import encode, noise


def drawn(*, seed: int = 0, width: int = 64, height: int = 48, kind: str = "PNG") -> bytes:
    """Return a picture of noise, so that its bytes are about as many as its pixels."""
    return encode(noise(width, height, seed=seed), kind)
