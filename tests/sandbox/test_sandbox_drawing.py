import io
import time

import pytest
from PIL import Image

from app.domain.models import SPECS, Model
from app.sandbox.drawing import Drawing, draw, size

from .client import Client


def test_results_are_served_as_images(client: Client) -> None:
    task_id = client.accept("a lake [sandbox: delay=0]", image_size="16:9", numImages=2, watermark="me")
    client.settled(task_id)
    first, second = (client.get(f"/images/{task_id}-{n}.png") for n in (1, 2))
    assert first.headers["content-type"] == "image/png"
    assert first.content != second.content
    assert client.get(f"/images/{task_id}-1.png").content == first.content
    with Image.open(io.BytesIO(first.content)) as image:
        assert image.format == "PNG"
        assert image.width / image.height == pytest.approx(16 / 9, rel=0.02)
    for name in (f"{task_id}-3.png", f"{task_id}-1.jpg", f"{'0' * 32}-1.png", "x"):
        assert client.get(f"/images/{name}").status_code == 404


def test_jpg(client: Client) -> None:
    task_id = client.accept("a lake", "generate-2", outputFormat="jpg", resolution="2K")
    client.settled(task_id)
    answer = client.get(f"/images/{task_id}-1.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    with Image.open(io.BytesIO(answer.content)) as image:
        assert (image.format, image.size) == ("JPEG", (2048, 2048))


def test_default_user_agents_of_python_are_rejected(client: Client) -> None:
    task_id = client.accept()
    client.settled(task_id)
    for agent in ("python-requests/2", "Python-urllib/3.11", "python-httpx/0.28"):
        assert client.get(f"/images/{task_id}-1.png", headers={"User-Agent": agent}).status_code == 403


def test_an_unfinished_task_has_no_image(client: Client) -> None:
    assert client.get(f"/images/{client.accept('[sandbox: never]')}-1.png").status_code == 404


def _drawing(text: str = "a lake", **changes: object) -> Drawing:
    fields = {"number": 1, "width": 256, "height": 256, "scale": 1, "inputs": (), "watermark": "", "format": "png"}
    return Drawing(text=text, **{**fields, **changes})  # type: ignore[arg-type]


def test_images_differ_by_request_and_repeat() -> None:
    requested = [
        _drawing(),
        _drawing("a river"),
        _drawing(number=2),
        _drawing(width=512),
        _drawing(inputs=("http://a",)),
        _drawing(inputs=("http://b",)),
        _drawing(watermark="me"),
    ]
    drawn = [draw(drawing) for drawing in requested]
    assert len(set(drawn)) == len(drawn)
    assert drawn == [draw(drawing) for drawing in requested]


@pytest.mark.parametrize(
    "text", ["", "日本の富士山", "مرحبا", "🍌🍌", "\x00\u202e\ud800", "x" * 20_000, "word " * 4000]
)
def test_any_prompt_can_be_drawn(text: str) -> None:
    draw(_drawing(text, watermark=text))


@pytest.mark.parametrize("ratio", [*SPECS[Model.NANO_BANANA_2].choices["aspect_ratio"], None])
def test_sizes_follow_the_ratio(ratio: str | None) -> None:
    width, height = size(ratio)
    across, down = (int(part) for part in (ratio if ratio not in {None, "auto"} else "1:1").split(":"))
    assert width / height == pytest.approx(across / down, rel=0.03)
    assert width * height == pytest.approx(1_048_576, rel=0.03)
    draw(_drawing(width=width // 4, height=height // 4))


def test_drawing_takes_less_than_a_second_of_cpu() -> None:
    begin = time.process_time()
    draw(_drawing(width=1024, height=1024))
    assert time.process_time() - begin < 1
