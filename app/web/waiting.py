"""Requests that wait (`Prefer: wait=N`, RFC 7240, or `?wait=N`), and clients that leave meanwhile."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Request
from pydantic import BeforeValidator, Field, WithJsonSchema
from starlette.types import Receive

from app.web.body import SMALL_BODY_BYTES
from app.web.parameters import Parameter

MAX_SECONDS = 60
_LONGEST_HEADER = 1_000
# Commas and semicolons inside quoted strings separate nothing.
_PREFERENCE = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,])+')
_BEFORE_PARAMETERS = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^;])*')


def _whole_number(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise ValueError("must be a whole number of seconds")
    return text


def _wait_of(preferences: str) -> int | None:
    for preference in _PREFERENCE.findall(preferences):
        # Without its own parameters.
        name, _, value = _BEFORE_PARAMETERS.findall(preference)[0].partition("=")
        if name.strip().lower() == "wait":
            # If a preference is stated twice, the first counts.
            digits = re.fullmatch(r'"0*([0-9]+)"|0*([0-9]+)', value.strip())
            if digits is None:
                return None
            number = digits[1] or digits[2]
            return int(number) if len(number) <= len(str(MAX_SECONDS)) and int(number) < MAX_SECONDS else MAX_SECONDS
    return None


PREFER: Parameter[int | None] = Parameter(
    "Prefer",
    "header",
    Annotated[int | None, BeforeValidator(_wait_of), WithJsonSchema({"type": "string"})],
    f"`wait=N`: respond when the task has finished, or after N seconds (at most {MAX_SECONDS}).",
    example="wait=30",
)
WAIT: Parameter[int] = Parameter(
    "wait",
    "query",
    Annotated[int, Field(ge=0, le=MAX_SECONDS), BeforeValidator(_whole_number)],
    "Respond when the task has finished, or after this many seconds with its current state.",
    example=30,
)


def preferred_wait(request: Request) -> int | None:
    """Return the seconds to wait by the `Prefer` header, at most 60; None without a valid preference."""
    # Checked first: few requests have it.
    if PREFER.text(request) is None:
        return None
    preferences = ",".join(request.headers.getlist(PREFER.name))
    return PREFER.parse(preferences) if len(preferences) <= _LONGEST_HEADER else None


def requested_wait(request: Request) -> int | None:
    """Return the seconds to wait by `?wait=` or, without it, `Prefer`; raises `InvalidRequest`."""
    seconds = WAIT.read(request)
    return preferred_wait(request) if seconds is None else seconds


def applied(seconds: int) -> dict[str, str]:
    """Return the header that confirms how long the service would wait."""
    return {"Preference-Applied": f"wait={seconds}"}


@asynccontextmanager
async def watch_disconnect(receive: Receive) -> AsyncIterator[asyncio.Task[None]]:
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
