"""Pictures inside a request: `data:image/png;base64,…` (RFC 2397)."""

import binascii
import re
from collections.abc import Iterator
from urllib.parse import unquote

_HEAD = re.compile(r"data:(?:image/[a-z0-9.+-]{1,64})?(?:;[a-z0-9-]{1,32}=[^;,]{0,64}){0,4};base64,", re.IGNORECASE)
_MAX_HEAD = 512
_CHARACTERS_AT_ONCE = 1024 * 1024  # a multiple of four, as base64 wants it


class BadDataUri(ValueError):
    """It can't be read; the message says why, in words for people."""


def is_data_uri(url: str) -> bool:
    """Whether an address carries its content in itself."""
    return url[:5].lower() == "data:"


def decode(uri: str) -> Iterator[bytes]:
    """Decode the content, part by part; raises `BadDataUri`, perhaps after some parts.

    The media type only has to be an image's, or none: what the content is, its bytes say.
    """
    head = _HEAD.match(uri[:_MAX_HEAD])
    if head is None:
        raise BadDataUri("must be an http(s) URL, or a data URI that begins like data:image/png;base64,")
    # Percent-encoding is allowed in any URI, though base64 needs it nowhere but in a query.
    text = unquote(uri[head.end() :]) if "%" in uri else uri[head.end() :]
    padded = text + "=" * (-len(text) % 4)
    try:
        for start in range(0, len(padded), _CHARACTERS_AT_ONCE):
            yield binascii.a2b_base64(padded[start : start + _CHARACTERS_AT_ONCE], strict_mode=True)
    except ValueError:  # of binascii, and of characters beyond ASCII
        raise BadDataUri("is a data URI whose base64 can't be decoded") from None
