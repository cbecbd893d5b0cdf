"""A result image of a task, and the rules by which a copy of it is made."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec
import uuid_utils
from msgspec.structs import replace

RETRY_PAUSES_MS = (2_000, 10_000, 60_000, 300_000, 900_000, 1_800_000, 3_600_000)
"""Pauses between tries to fetch an image, in milliseconds: sources recover within minutes, or never."""
LEASE_MS = 90_000
"""For how long, in milliseconds, an image is left to the process that fetches it; then others try."""
DEMAND_PAUSE_MS = 10_000
"""A picture that is asked for is fetched out of turn, but at most once in so many milliseconds."""
NOT_KEPT = "not_kept"
"""The reason of an image of which no copy was wanted."""
_MAX_RETRY_AFTER = 3_600_000
_MAX_REASON = 300
_TIME_IN_ID = (1 << 32) - 1


class ImageState(StrEnum):
    """Whether this service holds a copy of the image."""

    PENDING = "pending"  # in hand, or waiting for its next try
    STORED = "stored"
    UNAVAILABLE = "unavailable"  # given up, or not wanted; `reason` says why


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """One image; size in bytes and pixels are known once it was fetched. Times are milliseconds since the epoch, UTC.

    `hash` names the stored file. `tries` counts the tries of the schedule; from `next_try_at` on any process may
    fetch it, which while one has it in hand (`claimed_by`) is the end of its lease. `tried_at` is when that began last.
    """

    id: str
    task_id: str
    position: int
    source_url: str
    state: ImageState = ImageState.PENDING
    reason: str | None = None
    content_type: str | None = None
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    hash: str | None = None
    tries: int = 0
    tried_at: int | None = None
    next_try_at: int | None = None
    claimed_by: str | None = None

    @property
    def is_pending(self) -> bool:
        """Whether the copy is still to be made."""
        return self.state is ImageState.PENDING


class Stored(msgspec.Struct, frozen=True):
    """A picture that was fetched, checked and put into the store."""

    hash: str
    content_type: str
    bytes: int
    width: int
    height: int


class NotFetched(msgspec.Struct, frozen=True):
    """No picture came, or a bad one: why, whether to try again, and when at the earliest (ms) if the source said."""

    reason: str
    may_recover: bool = True
    retry_after: int | None = None


def new_images(task_id: str, urls: Sequence[str], *, is_kept: bool, now: int) -> list[Image]:
    """Create the images of a task in the upstream's order, with ids that nobody can guess (96 random bits)."""
    return [
        Image(
            id=_new_id(now),
            task_id=task_id,
            position=position,
            source_url=url,
            state=ImageState.PENDING if is_kept else ImageState.UNAVAILABLE,
            reason=None if is_kept else NOT_KEPT,
            next_try_at=now if is_kept else None,
        )
        for position, url in enumerate(urls)
    ]


def _new_id(now: int) -> str:
    """Make an id that begins with the time, modulo 50 days: what is made together stands together in the index."""
    # Asking the system for bits would give the interpreter away, and a busy event loop gives it back late. Of a
    # version 4 UUID the digits 12 to 19 are left out, among them the six bits that are not random.
    digits = uuid_utils.uuid4().hex
    return f"img_{now & _TIME_IN_ID:08x}{digits[:12]}{digits[20:]}"


def claim(image: Image, by: str, now: int) -> Image:
    """Take a pending image in hand."""
    return replace(image, claimed_by=by, tried_at=now, next_try_at=now + LEASE_MS)


def may_demand(image: Image, now: int) -> bool:
    """Whether an image that is asked for may be fetched now: it is due, or nobody has it and none tried just now."""
    if not image.is_pending:
        return False
    if image.next_try_at is None or image.next_try_at <= now:
        return True
    return image.claimed_by is None and (image.tried_at is None or image.tried_at + DEMAND_PAUSE_MS <= now)


def store(image: Image, found: Stored) -> Image:
    """Note that the copy is there."""
    return replace(
        image,
        state=ImageState.STORED,
        reason=None,
        hash=found.hash,
        content_type=found.content_type,
        bytes=found.bytes,
        width=found.width,
        height=found.height,
        next_try_at=None,
        claimed_by=None,
    )


def fail(image: Image, failure: NotFetched, *, now: int, planned: int | None = None) -> Image:
    """Apply a try that brought no picture: plan the next, or give up.

    `planned` is when the schedule has the next try if this one was out of turn: it uses none up.
    """
    reason = failure.reason[:_MAX_REASON]
    if not failure.may_recover or (planned is None and image.tries >= len(RETRY_PAUSES_MS)):
        return give_up(image, reason)
    if planned is not None:
        return replace(image, next_try_at=planned, claimed_by=None)
    pause = max(RETRY_PAUSES_MS[image.tries], min(failure.retry_after or 0, _MAX_RETRY_AFTER))
    return replace(image, tries=image.tries + 1, next_try_at=now + pause, claimed_by=None)


def give_up(image: Image, reason: str) -> Image:
    """Make no copy (any more)."""
    return replace(image, state=ImageState.UNAVAILABLE, reason=reason, next_try_at=None, claimed_by=None)


def put_back(image: Image, at: int) -> Image:
    """Leave an image to whoever looks at that time; nothing is known of its source."""
    return replace(image, next_try_at=at, claimed_by=None)
