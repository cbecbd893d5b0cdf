"""Finds image URLs anywhere in the upstream's messages.

The vendor does not document the format for several images, and its replies vary.
"""

import re
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from typing import Any
from urllib.parse import quote

from app.upstream.bodies import parse_json

# In order of preference. Keys are compared in lower case and without underscores.
_RESULT_KEYS: Sequence[frozenset[str]] = (
    frozenset({"resultimageurl", "resultimageurls", "resulturl", "resulturls", "resultimages"}),
    # The same image before the vendor copies it. This URL expires after ten minutes.
    frozenset({"originimageurl", "originimageurls"}),
)
# Also seen for results, but some replies use them for inputs, so they only count if nothing else is found.
_LAST_RESORT_KEYS = frozenset({"images", "image", "imageurl", "imageurls"})
# Names of objects and lists with results. A text there may be prose that mentions another URL.
_CONTAINER_KEYS = frozenset({"info", "output", "outputs", "response", "result", "results"})
# Names of the URL in objects that describe an image.
_URL_KEYS = ("url", "urls", "imageUrl", "image_url", "resultImageUrl", "src", "uri")
# Names of objects that repeat our request.
_INPUT_KEYS = re.compile(r"param|input|request|callback", re.IGNORECASE)
_MAX_DEPTH = 5
_MAX_OBJECTS = 64
_MAX_ITEMS = 64
_MAX_URLS = 256
_MAX_IMAGES = 16
_MAX_URL_CHARACTERS = 4096
# A URL begins at the start or after a separator. URLs may contain separators themselves.
_URL_START = re.compile(r"(?:^|(?<=[\s,;|]))(?:https?://|//(?=[\w-]{1,63}\.))", re.IGNORECASE)
_SEPARATORS = ",;| \t\r\n"
# White space, control characters, surrogates, and characters invalid in URLs.
_INVALID = r"\s\"<>\\\x00-\x20\x7f-\x9f\ud800-\udfff"
_URL = re.compile(
    rf"https?://([^{_INVALID}/?#]*@)?(\[[0-9a-f:.]+\]|[^{_INVALID}/?#@:\[\]]+)(:\d{{0,5}})?([/?#][^{_INVALID}]*)?",
    re.IGNORECASE,
)
_AUTHORITY = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_LINE_END = re.compile(r"[\t\r\n]")
# Browsers escape these. Line breaks and control characters end a URL.
_ESCAPED = re.compile(r"[^\S\t-\r\x1c-\x1f\x85\u2028\u2029]|[\"<>]")


def find_image_urls(body: dict[str, Any], *, last_resort: bool = True) -> tuple[str, ...]:
    """Collect distinct http(s) URLs of results, in order.

    With `last_resort`, keys that may name inputs count if there are no others.
    """
    fields = [(_plain(key), value) for found in _objects_in(body) for key, value in _items(found)]
    candidates = [[value for key, value in fields if key in keys] for keys in _RESULT_KEYS]
    if last_resort:
        candidates += [
            [value for key, value in fields if key in _LAST_RESORT_KEYS],
            [value for key, value in fields if key in _CONTAINER_KEYS and not isinstance(value, str)],
        ]
    for values in candidates:
        found = dict.fromkeys(islice((url for value in values for url in _urls_in(value, _MAX_DEPTH)), _MAX_URLS))
        if found:
            return tuple(found)[:_MAX_IMAGES]
    return ()


def _objects_in(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield nested objects, breadth first, skipping repetitions of our request."""
    waiting, count = deque([(body, 0)]), 0
    while waiting and count < _MAX_OBJECTS:
        found, depth = waiting.popleft()
        count += 1
        yield found
        if depth < _MAX_DEPTH:
            inner = (one for key, value in _items(found) if not _INPUT_KEYS.search(key) for one in _objects_at(value))
            waiting.extend((one, depth + 1) for one in inner)


def _items(found: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    return islice(found.items(), _MAX_ITEMS)


def _objects_at(value: object) -> list[dict[str, Any]]:
    if isinstance(value, str):
        value = parse_json(value) if value.lstrip()[:1] in {"{", "["} else None
    if isinstance(value, dict):
        return [value]
    return [item for item in value[:_MAX_ITEMS] if isinstance(item, dict)] if isinstance(value, list) else []


def _plain(key: str) -> str:
    return key.replace("_", "").lower()


def _urls_in(value: object, depth: int) -> Iterator[str]:
    """Find URLs in a string, list, object, or encoded JSON."""
    if depth == 0:
        return
    if isinstance(value, str):
        parsed = parse_json(value) if value.lstrip()[:1] in {"[", "{", '"'} else None
        yield from _split(value) if parsed is None else _urls_in(parsed, depth - 1)
    elif isinstance(value, list):
        for item in value[:_MAX_ITEMS]:
            yield from _urls_in(item, depth - 1)
    elif isinstance(value, dict):
        given = (list(_urls_in(value.get(key), depth - 1)) for key in _URL_KEYS)
        yield from next(filter(None, given), [])


def _split(text: str) -> Iterator[str]:
    """Split a text where URLs begin."""
    text = text.replace("\\/", "/")  # escaped twice
    starts = [match.start() for match in _URL_START.finditer(text)]
    for start, end in pairwise([*starts, len(text)]):
        url = _normalize(text[start:end])
        if url is not None:
            yield url


def _normalize(text: str) -> str | None:
    """Complete and escape a URL like browsers; None if invalid."""
    text = _LINE_END.split(text.strip(_SEPARATORS), 1)[0].rstrip(_SEPARATORS)
    text = f"https:{text}" if text.startswith("//") else text
    authority = _AUTHORITY.match(text)
    if authority is None or len(text) > _MAX_URL_CHARACTERS:
        return None
    end = authority.end()
    url = text[:end] + _ESCAPED.sub(lambda match: quote(match[0]), text[end:])
    return url if len(url) <= _MAX_URL_CHARACTERS and _URL.fullmatch(url) else None
