"""Requests that wait: `Prefer: wait=N` (RFC 7240) or `?wait=N`."""

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
_MAX_HEADER_CHARACTERS = 1_000
# Commas and semicolons inside quoted strings don't separate anything.
_PREFERENCE = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^,])+')
_BEFORE_PARAMETERS = re.compile(r'(?:"(?:[^"\\]|\\.)*"|[^;])*')


def _whole_number(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,4}", text):
        raise ValueError("must be a whole number of seconds")
    return text


def _wait_of(preferences: str) -> int | None:
    for preference in _PREFERENCE.findall(preferences):
        name, _, value = _BEFORE_PARAMETERS.findall(preference)[0].partition("=")
        if name.strip().lower() == "wait":
            # The first of several counts (RFC 7240, section 2).
            match = re.fullmatch(r'("?)([0-9]+)\1', value.strip())
            return min(int(match[2]), MAX_SECONDS) if match else None
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
    """Return the seconds from `Prefer: wait`, capped at `MAX_SECONDS`."""
    # Few requests have the header, and collecting all its values takes time.
    if PREFER.text(request) is None:
        return None
    preferences = ",".join(request.headers.getlist(PREFER.name))
    return PREFER.parse(preferences) if len(preferences) <= _MAX_HEADER_CHARACTERS else None


def requested_wait(request: Request) -> int | None:
    """Return the seconds from `?wait=` or `Prefer`; raises `InvalidRequest`."""
    seconds = WAIT.read(request)
    return preferred_wait(request) if seconds is None else seconds


def applied(seconds: int) -> dict[str, str]:
    """Return the header that confirms the wait."""
    return {"Preference-Applied": f"wait={seconds}"}


@asynccontextmanager
async def watch_disconnect(receive: Receive) -> AsyncIterator[asyncio.Task[None]]:
    """Yield a task that ends when the client disconnects."""
    disconnected = asyncio.create_task(_until_disconnected(receive))
    try:
        yield disconnected
    finally:
        disconnected.cancel()
        await asyncio.gather(disconnected, return_exceptions=True)


async def _until_disconnected(receive: Receive) -> None:
    """Wait until the client disconnects or sends a large body."""
    unread = 0
    while (message := await receive())["type"] != "http.disconnect":
        unread += len(message.get("body", b""))
        if unread > SMALL_BODY_BYTES:
            return
