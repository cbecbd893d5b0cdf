"""Ids of tasks, keys and images, and request fingerprints."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.idempotency import fingerprint
from app.domain.image import new_images
from app.domain.key import hash_secret, new_key_id, new_secret
from app.domain.models import Model, TaskType
from app.domain.task import Task, new_task

URLS = ("https://x.example/2.png", "https://x.example/1.png")
JSON = st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.text(), max_size=3)


def fresh(image_urls: list[str] | None = None) -> Task:
    return new_task(
        project="default",
        model=Model.NANO_BANANA,
        task_input={"prompt": "p", "image_urls": image_urls or []},
        metadata={},
        now=5,
        queue_timeout=10,
    )


def test_task_ids_are_in_order_of_creation() -> None:
    ids = [fresh().id for _ in range(10_000)]
    assert ids == sorted(set(ids))


def test_a_task_id_is_a_prefix_and_32_digits_that_begin_with_the_time() -> None:
    task_id = fresh().id
    assert re.fullmatch(r"task_[0-9a-f]{32}", task_id)
    assert int(task_id[5:17], 16) == 5


@pytest.mark.parametrize(
    ("image_urls", "task_type"), [([], TaskType.TEXT_TO_IMAGE), ([URLS[0]], TaskType.IMAGE_TO_IMAGE)]
)
def test_the_type_follows_from_the_images(image_urls: list[str], task_type: TaskType) -> None:
    assert fresh(image_urls).type is task_type


def test_a_new_task_is_due_at_once_and_for_as_long_as_the_queue_timeout() -> None:
    task = fresh()
    assert (task.not_before, task.deadline_at, task.attempts) == (5, 15, 0)


def test_images_keep_the_upstreams_order_and_have_their_own_ids() -> None:
    images = new_images("task_x", URLS, is_kept=True, now=0)
    assert [(image.position, image.source_url) for image in images] == list(enumerate(URLS))
    assert len({image.id for image in images + new_images("task_x", URLS, is_kept=True, now=0)}) == 4
    assert all(re.fullmatch(r"img_[0-9a-f]{32}", image.id) for image in images)


@pytest.mark.parametrize(("now", "beginning"), [(0, "00000000"), (0x019A_BCDE_F012, "bcdef012")])
def test_image_ids_begin_with_the_time_and_are_otherwise_random(now: int, beginning: str) -> None:
    made = [new_images("task_x", URLS[:1], is_kept=True, now=now)[0].id for _ in range(200)]
    assert {image_id[4:12] for image_id in made} == {beginning}
    for place in range(12, 36):
        assert len({image_id[place] for image_id in made}) > 4


def test_keys_are_long_and_random_and_only_their_digest_is_stored() -> None:
    secret = new_secret()
    assert re.fullmatch(r"nbg_[A-Za-z0-9_-]{43}", secret)
    assert secret != new_secret()
    assert re.fullmatch(r"[0-9a-f]{64}", hash_secret(secret))
    assert re.fullmatch(r"key_[0-9a-f]{32}", new_key_id())


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_a_fingerprint_does_not_depend_on_the_order_of_fields(request_: dict[str, object]) -> None:
    assert fingerprint(request_) == fingerprint(dict(reversed(request_.items())))


@pytest.mark.parametrize(
    "other",
    [{"prompt": "b"}, {"prompt": "a", "x": None}, {"prompt": ["a"]}, {"prompt": "a "}, {}, {"Prompt": "a"}],
)
def test_a_fingerprint_notices_every_difference(other: dict[str, object]) -> None:
    assert fingerprint(other) != fingerprint({"prompt": "a"})
