"""When images are fetched and when they are given up."""

from msgspec.structs import replace

from app.domain import image as rules
from app.domain.image import (
    DEMAND_PAUSE_MS,
    LEASE_MS,
    RETRY_PAUSES_MS,
    Image,
    ImageState,
    NotFetched,
    new_images,
)

NOW = 1_000_000


def fresh(**changes: object) -> Image:
    (image,) = new_images("task_x", ("https://x.example/1",), is_kept=True, now=NOW)
    return replace(image, **changes)


def test_a_new_image_is_due_at_once_unless_no_copies_are_kept() -> None:
    assert (fresh().state, fresh().next_try_at, fresh().reason) == (ImageState.PENDING, NOW, None)
    (image,) = new_images("task_x", ("https://x.example/1",), is_kept=False, now=NOW)
    assert (image.state, image.next_try_at, image.reason) == (ImageState.UNAVAILABLE, None, "not_kept")


def test_a_source_is_retried_on_schedule_and_then_given_up() -> None:
    image, now = fresh(), NOW
    pauses = []
    while image.is_pending:
        assert image.next_try_at is not None
        now = image.next_try_at
        image = rules.fail(rules.claim(image, "p", now), NotFetched("HTTP 404"), now=now)
        pauses.append((image.next_try_at or now) - now)
    assert pauses == [*RETRY_PAUSES_MS, 0]
    assert (image.state, image.reason, image.claimed_by) == (ImageState.UNAVAILABLE, "HTTP 404", None)
    assert now - NOW < 2 * 3_600_000


def test_a_source_that_cannot_recover_is_given_up_at_once() -> None:
    image = rules.fail(rules.claim(fresh(), "p", NOW), NotFetched("no picture", retries=0), now=NOW)
    assert (image.state, image.reason) == (ImageState.UNAVAILABLE, "no picture")


def test_a_source_that_may_not_be_ready_is_retried_only_in_the_first_minutes() -> None:
    image, now, tries = fresh(), NOW, 0
    while image.is_pending:
        now, tries = image.next_try_at or now, tries + 1
        image = rules.fail(rules.claim(image, "p", now), NotFetched("HTML", rules.EARLY_RETRIES), now=now)
    assert tries == rules.EARLY_RETRIES + 1
    assert 60_000 < now - NOW < 600_000


def test_a_source_may_ask_for_a_longer_pause_within_limits() -> None:
    for asked, pause in ((5_000, 5_000), (500, RETRY_PAUSES_MS[0]), (10**12, 3_600_000)):
        image = rules.fail(rules.claim(fresh(), "p", NOW), NotFetched("busy", retry_after=asked), now=NOW)
        assert image.next_try_at == NOW + pause


def test_attempts_on_demand_are_not_counted() -> None:
    image = fresh(tries=3, next_try_at=NOW + 300_000, tried_at=NOW - DEMAND_PAUSE_MS)
    after = rules.fail(rules.claim(image, "p", NOW), NotFetched("busy"), now=NOW, planned=NOW + 300_000)
    assert (after.tries, after.next_try_at, after.is_pending) == (3, NOW + 300_000, True)


def test_a_requested_image_is_fetched_unless_claimed_or_tried_just_now() -> None:
    waiting = fresh(tries=1, next_try_at=NOW + 300_000)
    assert rules.may_demand(fresh(), NOW)
    assert rules.may_demand(replace(waiting, tried_at=NOW - DEMAND_PAUSE_MS), NOW)
    assert not rules.may_demand(replace(waiting, tried_at=NOW - DEMAND_PAUSE_MS + 1), NOW)
    claimed = rules.claim(fresh(), "p", NOW)
    assert not rules.may_demand(claimed, NOW + LEASE_MS - 1)
    assert rules.may_demand(claimed, NOW + LEASE_MS)
    assert not rules.may_demand(rules.give_up(fresh(), "gone"), NOW)


def test_a_released_image_is_unchanged() -> None:
    after = rules.put_back(rules.claim(fresh(tries=2), "p", NOW), NOW + 5)
    assert (after.tries, after.next_try_at, after.claimed_by) == (2, NOW + 5, None)


def test_only_the_owner_renews_a_lease() -> None:
    claimed = rules.claim(fresh(), "p", NOW)
    assert rules.renew(claimed, "p", NOW + 5).next_try_at == NOW + 5 + LEASE_MS
    assert rules.renew(claimed, "q", NOW + 5) == claimed
    given_up = replace(claimed, state=ImageState.UNAVAILABLE)
    assert rules.renew(given_up, "p", NOW + 5) == given_up
