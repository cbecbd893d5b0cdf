"""Where image URLs are found, and which are valid."""

import json
import time
from typing import Any

import pytest

from app.upstream.image_urls import find_image_urls

A, B = "https://img.example.com/a.png", "https://img.example.com/b.png"


@pytest.mark.parametrize(
    "value",
    [
        f"{A},{B}",
        f"{A};{B}",
        f"{A}|{B}",
        f"{A} {B}",
        f"{A}\n{B}\n",
        f"{A}\r\n, {B}",
        f"//img.example.com/a.png,{B}",
        json.dumps([A, B]).replace("/", "\\/"),
        f"{A};{B}".replace("/", "\\/"),
        [{"url": A}, {"url": B}],
        [{"imageUrl": A, "size": "1x1"}, {"image_url": B}],
        json.dumps([{"url": A}, B]),
        {"url": [A, B]},
        [[A], [[B]]],
        [f"{A}\nnot a URL", B],
    ],
)
def test_several_urls_in_any_spelling(value: Any) -> None:
    assert find_image_urls({"resultImageUrl": value}) == (A, B)


@pytest.mark.parametrize(
    "body",
    [
        {"data": {"resultJson": json.dumps({"resultUrls": [A]})}},
        {"data": {"response": json.dumps({"resultJson": json.dumps({"result_urls": A})})}},
        {"data": {"info": {"result_image_url": A}}},
        {"data": {"output": {"images": [{"url": A}]}}},
        {"images": [{"url": A}]},
        {"data": [{"resultImageUrl": A}, {"resultImageUrl": A}]},
        {"data": {"result": {"data": {"resultImageUrls": [A]}}}},
        {"data": {"response": {"originImageUrl": A, "resultImageUrl": None}}},
        {"data": {"paramJson": json.dumps({"imageUrls": [B]}), "originImageUrl": A}},
        {"data": {"param": {"imageUrls": [B]}, "input": {"image": B}, "imageUrl": A}},
        {"data": {"originImageUrl": B, "response": {"resultImageUrl": A}}},
        {"data": {"imageUrls": [B], "response": {"originImageUrl": A}}},
    ],
)
def test_results_are_found_wherever_they_are_and_inputs_are_not_taken(body: dict[str, Any]) -> None:
    assert find_image_urls(body) == (A,)


def test_keys_that_may_name_inputs_are_a_last_resort() -> None:
    assert find_image_urls({"data": {"imageUrls": [A]}}) == (A,)
    assert find_image_urls({"data": {"imageUrls": [A]}}, last_resort=False) == ()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://img.example.com/a b.png", "https://img.example.com/a%20b.png"),
        ("https://img.example.com/a\u3000b.png", "https://img.example.com/a%E3%80%80b.png"),
        ('https://img.example.com/a"b".png', "https://img.example.com/a%22b%22.png"),
        ("https://img.example.com/图.png", "https://img.example.com/图.png"),
        ("//img.example.com/a.png", A),
        ("HTTPS://img.example.com/a.png", "HTTPS://img.example.com/a.png"),
        ("https://x.example/a,b;c|d.png?size=1,2", "https://x.example/a,b;c|d.png?size=1,2"),
        ("https://x.example/?u=https://y.example/a", "https://x.example/?u=https://y.example/a"),
        (f"see {A}", A),
        ("https://img .example.com/a.png", None),
        ("https://img.example.com/a\x00b.png", None),
        ("https://img.example.com/\ud800.png", None),
        ("https:///a.png", None),
        ("//", None),
        ("/a.png", None),
        ("data:image/png;base64,AAAA", None),
        ("https://x.example/" + "a" * 5000, None),
        ("https://x.example/" + " " * 2000 + "a", None),  # too long once escaped
    ],
)
def test_valid_and_invalid_urls(text: str, url: str | None) -> None:
    assert find_image_urls({"resultImageUrl": text}) == ((url,) if url else ())


def test_nesting_and_number_are_limited() -> None:
    deep: Any = A
    for _ in range(900):
        deep = [deep]
    assert find_image_urls({"resultImageUrl": deep}) == ()
    body: dict[str, Any] = {"resultImageUrl": A}
    for _ in range(900):
        body = {"data": body}
    assert find_image_urls(body) == ()
    assert len(find_image_urls({"resultImageUrls": [f"https://x.example/{n}.png" for n in range(1000)]})) == 16


@pytest.mark.parametrize(
    "body",
    [
        {"resultImageUrl": " " * 1_000_000},
        {"resultImageUrl": "," * 1_000_000 + "x"},
        {"resultImageUrl": "https://" * 125_000},
        {"resultImageUrl": " //a." * 200_000},
        {"resultImageUrl": [" https://a/ " * 80_000]},
        {"resultImageUrl": "[" * 1_000_000},
        {"resultImageUrl": ["x"] * 300_000},
        {f"k{n}": "{" for n in range(100_000)},
        {"data": [{} for _ in range(300_000)]},
        {"data": {"a": [[{"b": [{"c": "{}"}] * 64}] * 64] * 64}},
    ],
)
def test_a_hostile_result_takes_little_time(body: dict[str, Any]) -> None:
    began = time.thread_time()
    find_image_urls(body)
    assert time.thread_time() - began < 3


@pytest.mark.parametrize(
    "data",
    [
        {"info": {"url": "https://img.example.com/a.png"}},
        {"response": {"urls": ["https://img.example.com/a.png"]}},
        {"result": {"url": "https://img.example.com/a.png"}},
        {"output": ["https://img.example.com/a.png"]},
    ],
)
def test_plain_names_count_if_nothing_else_is_found(data: dict[str, Any]) -> None:
    assert find_image_urls({"code": 200, "data": data}) == ("https://img.example.com/a.png",)
    better = {"resultImageUrl": "https://img.example.com/b.png", **data}
    assert find_image_urls({"code": 200, "data": better}) == ("https://img.example.com/b.png",)


@pytest.mark.parametrize(
    "data",
    [
        {"links": {"url": "https://docs.example.com/"}},
        {"url": "https://docs.example.com/"},
        {"response": "Done. See https://docs.example.com/"},
        {"info": "https://docs.example.com/"},
    ],
)
def test_a_url_that_may_be_anything_is_not_taken_for_a_result(data: dict[str, Any]) -> None:
    assert find_image_urls({"code": 200, "data": data}) == ()
