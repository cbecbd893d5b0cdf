"""Requests that wait: how they ask for it (`Prefer: wait=N`, RFC 7240, or `?wait=N`), and what if the client leaves."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import Request
from starlette.types import Receive

from app.api.body import SMALL_BODY_BYTES
from app.api.headers import header
from app.errors import InvalidRequest

MAX_SECONDS = 60
_LONGEST_HEADER = 1_000
# Quoted strings in one piece, so that what separates preferences and their parameters is told from what they contain.
_PIECES = re.compile(r'"(?:[^"\\]|\\.)*"|[,;"]|[^,;"]+')

PREFER_PARAMETER: dict[str, Any] = {
    "name": "Prefer",
    "in": "header",
    "schema": {"type": "string"},
    "description": f"`wait=N`: answer when the task has ended, at the latest after N seconds (at most {MAX_SECONDS}).",
    "example": "wait=30",
}
"""For the API's document, as routes read this header themselves."""
WAIT_PARAMETER: dict[str, Any] = {
    "name": "wait",
    "in": "query",
    "schema": {"type": "integer", "minimum": 0, "maximum": MAX_SECONDS},
    "description": "Answer when the task has ended, at the latest after so many seconds.",
}
"""Likewise."""


def preferred_wait(request: Request) -> int | None:
    """Return for how many seconds the `Prefer` header asks to wait, 60 for more; None if it doesn't, or not rightly."""
    # Looked at first: this is on the way of every submit and every look at a task, and few of them have it.
    if header(request.scope, b"prefer") is None:
        return None
    values = request.headers.getlist("prefer")
    preferences = ",".join(values)
    return _wait_of(preferences) if len(preferences) <= _LONGEST_HEADER else None


def requested_wait(request: Request) -> int | None:
    """Return for how many seconds `?wait=` or, without it, `Prefer` asks to wait; raises `InvalidRequest`."""
    # Looked at first: this is on the way of every look at a task, and few of them have a query.
    if not request.scope["query_string"]:
        return preferred_wait(request)
    text = request.query_params.get("wait", "")
    if not text:
        return preferred_wait(request)
    if not re.fullmatch(r"[0-9]{1,4}", text) or int(text) > MAX_SECONDS:
        message = f"must be a whole number of seconds, 0 to {MAX_SECONDS}"
        raise InvalidRequest("Some parameters are wrong.", [{"field": "wait", "message": message}])
    return int(text)


def applied(seconds: int) -> dict[str, str]:
    """Return the header that says for how long the service was ready to wait."""
    return {"Preference-Applied": f"wait={seconds}"}


@asynccontextmanager
async def departure(receive: Receive) -> AsyncIterator[asyncio.Task[None]]:
    """Watch whether the client leaves: the task that this gives is done when it has."""
    leaving = asyncio.create_task(_until_disconnected(receive))
    try:
        yield leaving
    finally:
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)


async def _until_disconnected(receive: Receive) -> None:
    """Wait for the client to leave; one that sends a large body here, where none is asked for, counts as gone."""
    unread = 0
    while (message := await receive())["type"] != "http.disconnect":
        unread += len(message.get("body", b""))
        if unread > SMALL_BODY_BYTES:
            return


def _wait_of(header: str) -> int | None:
    for preference in _preferences(header):
        name, _, value = preference.partition("=")
        if name.strip().lower() == "wait":
            # Of a preference that is stated twice, the first counts.
            digits = re.fullmatch(r'"0*([0-9]+)"|0*([0-9]+)', value.strip())
            if digits is None:
                return None
            number = digits[1] or digits[2]
            return int(number) if len(number) <= len(str(MAX_SECONDS)) and int(number) < MAX_SECONDS else MAX_SECONDS
    return None


def _preferences(header: str) -> Iterator[str]:
    """Take a `Prefer` header apart, leaving out the parameters of preferences."""
    preference, is_parameter = "", False
    for piece in _PIECES.findall(header):
        if piece == ",":
            yield preference
            preference, is_parameter = "", False
        elif piece == ";":
            is_parameter = True
        elif not is_parameter:
            preference += piece
    yield preference
