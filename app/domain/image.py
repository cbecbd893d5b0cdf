"""Result images, and the rules for copying them."""

from collections.abc import Sequence

import msgspec
import uuid_utils
from msgspec.structs import asdict, replace

from app.domain.words import Word

RETRY_PAUSES_MS = (2_000, 10_000, 60_000, 300_000, 900_000, 1_800_000, 3_600_000)
"""Pauses between attempts; sources recover within minutes or never."""
ALL_RETRIES = len(RETRY_PAUSES_MS)
"""Retries of a source that may recover."""
EARLY_RETRIES = 4
"""Retries of a source that may not be ready yet, over some minutes."""
LEASE_MS = 90_000
"""How long an image belongs to the process that claimed it."""
DEMAND_PAUSE_MS = 10_000
"""The minimum pause between fetches on demand."""
NOT_KEPT = "not_kept"
"""The reason when the settings disable copying."""
_MAX_RETRY_AFTER_MS = 3_600_000
_MAX_REASON_CHARACTERS = 300
_TIME_IN_ID = (1 << 32) - 1


class ImageState(Word):
    """The state of the service's copy of an image."""

    PENDING = "pending"  # claimed, or waiting for its next attempt
    STORED = "stored"
    UNAVAILABLE = "unavailable"  # given up, or not copied; `reason` says why


class Image(msgspec.Struct, frozen=True, kw_only=True):
    """One image; type and size are None until stored.

    Times are milliseconds since the epoch, UTC. `hash` names the stored file. `tries` counts scheduled attempts. Any
    process may claim the image from `next_try_at` on; while it is claimed (`claimed_by`), that is the end of the lease.
    `tried_at` is when the last attempt began.
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
        """Whether the image may still be copied."""
        return self.state is ImageState.PENDING


class Stored(msgspec.Struct, frozen=True):
    """The outcome of a successful attempt: a stored file."""

    hash: str
    content_type: str
    bytes: int
    width: int
    height: int


class NotFetched(msgspec.Struct, frozen=True):
    """The outcome of a failed attempt.

    `retries` limits the total number of retries; `retry_after` is in milliseconds.
    """

    reason: str
    retries: int = ALL_RETRIES
    retry_after: int | None = None


def new_images(task_id: str, urls: Sequence[str], *, is_kept: bool, now: int) -> list[Image]:
    """Create a task's images; their ids are unguessable."""
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
    """Make an id with 96 random bits."""
    # It starts with the time (modulo 50 days), so that new ids are neighbors in the index. `secrets` would release the
    # GIL for a system call and wait for it while the event loop is busy. Digits 12 to 19 of a version 4 UUID are
    # dropped because six of their bits are not random.
    digits = uuid_utils.uuid4().hex
    return f"img_{now & _TIME_IN_ID:08x}{digits[:12]}{digits[20:]}"


def claim(image: Image, by: str, now: int) -> Image:
    """Claim a pending image."""
    return replace(image, claimed_by=by, tried_at=now, next_try_at=now + LEASE_MS)


def renew(image: Image, by: str, now: int) -> Image:
    """Renew the lease during a long fetch."""
    return replace(image, next_try_at=now + LEASE_MS) if image.is_pending and image.claimed_by == by else image


def may_demand(image: Image, now: int) -> bool:
    """Whether a requested image may be fetched now."""
    if not image.is_pending:
        return False
    if image.next_try_at is None or image.next_try_at <= now:
        return True
    return image.claimed_by is None and (image.tried_at is None or image.tried_at + DEMAND_PAUSE_MS <= now)


def store(image: Image, found: Stored) -> Image:
    """Record that the image is stored."""
    return replace(image, **asdict(found), state=ImageState.STORED, reason=None, next_try_at=None, claimed_by=None)


def fail(image: Image, failure: NotFetched, *, now: int, planned: int | None = None) -> Image:
    """Apply a failed attempt: schedule a retry, or give up.

    For an attempt on demand, `planned` is the time of the next scheduled one; attempts on demand are not counted.
    """
    reason = failure.reason[:_MAX_REASON_CHARACTERS]
    if not failure.retries or (planned is None and image.tries >= failure.retries):
        return give_up(image, reason)
    if planned is not None:
        return replace(image, next_try_at=planned, claimed_by=None)
    pause = max(RETRY_PAUSES_MS[image.tries], min(failure.retry_after or 0, _MAX_RETRY_AFTER_MS))
    return replace(image, tries=image.tries + 1, next_try_at=now + pause, claimed_by=None)


def give_up(image: Image, reason: str) -> Image:
    """Stop trying to copy an image."""
    return replace(image, state=ImageState.UNAVAILABLE, reason=reason, next_try_at=None, claimed_by=None)


def put_back(image: Image, at: int) -> Image:
    """Release an image until `at`, without counting the attempt."""
    return replace(image, next_try_at=at, claimed_by=None)
