import json
import re

import httpx
import pytest

from .client import ROOT, Client
from .receiver import Receiver


def test_a_task_is_made_reported_and_called_back(client: Client, receiver: Receiver) -> None:
    task_id = client.accept("a lake", callBackUrl=receiver.url, numImages=1, aspectRatio="not known here")
    assert re.fullmatch(r"[0-9a-f]{32}", task_id)
    url = f"{client.base_url}/images/{task_id}-1.png".replace("//images", "/images")
    assert receiver.next() == {
        "code": 200,
        "msg": "Image generated successfully.",
        "data": {"taskId": task_id, "info": {"resultImageUrl": url}},
    }
    body = client.record(task_id).json()
    data = body["data"]
    assert (body["code"], body["msg"]) == (200, "success")
    assert json.loads(data.pop("paramJson")) == {"numImages": 1, "prompt": "a lake", "type": "TEXTTOIAMGE"}
    for name in ("createTime", "completeTime"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", data.pop(name))
    assert data == {
        "taskId": task_id,
        "response": {"originImageUrl": None, "resultImageUrl": url},
        "successFlag": 1,
        "errorCode": None,
        "errorMessage": None,
        "operationType": "nanobanana_TEXTTOIAMGE",
    }


def test_generating_has_no_result_yet(client: Client) -> None:
    data = client.record(client.accept("x [sandbox: never]")).json()["data"]
    assert (data["successFlag"], data["response"], data["completeTime"]) == (0, None, None)


def test_generate_2_calls_back_with_the_record(client: Client, receiver: Receiver) -> None:
    task_id = client.accept("a lake", "generate-2", callBackUrl=receiver.url, outputFormat="jpg", type="ignored")
    body = receiver.next()
    assert body == {"code": 200, "msg": "success", "data": client.record(task_id).json()["data"]}
    assert body["data"]["response"]["resultImageUrl"].endswith(f"{task_id}-1.jpg")


def test_generate_pro_says_message(client: Client) -> None:
    assert client.submit(endpoint="generate-pro").json()["message"] == "success"
    assert client.submit("", "generate-pro").json() == {"code": 400, "message": "prompt is required."}


def test_several_images_come_as_a_list(client: Client, receiver: Receiver) -> None:
    client.accept(numImages=3, callBackUrl=receiver.url)
    info = receiver.next()["data"]["info"]
    assert len(info["resultImageUrls"]) == 3
    assert info["resultImageUrl"] == info["resultImageUrls"][0]


@pytest.mark.parametrize(
    ("endpoint", "fields"),
    [
        ("generate", {"prompt": None}),
        ("generate", {"prompt": "  "}),
        ("generate", {"prompt": 5}),
        ("generate", {"type": "TEXTTOIMAGE"}),
        ("generate", {"type": None}),
        ("generate", {"type": "IMAGETOIAMGE"}),
        ("generate", {"type": "IMAGETOIAMGE", "imageUrls": [""]}),
        ("generate", {"imageUrls": "http://x"}),
        ("generate", {"numImages": 0}),
        ("generate", {"numImages": 5}),
        ("generate", {"numImages": True}),
        ("generate", {"image_size": "7:3"}),
        ("generate", {"image_size": ["1:1"]}),
        ("generate", {"watermark": 5}),
        ("generate-pro", {"imageUrls": ["http://x"] * 9}),
        ("generate-pro", {"resolution": "8K"}),
        ("generate-2", {"prompt": "x" * 20_001}),
        ("generate-2", {"imageUrls": ["http://x"] * 15}),
        ("generate-2", {"aspectRatio": "7:3"}),
        ("generate-2", {"googleSearch": "yes"}),
        ("generate-2", {"outputFormat": "gif"}),
    ],
)
def test_bad_requests_are_refused_without_data(client: Client, endpoint: str, fields: dict[str, object]) -> None:
    body = {"prompt": "a lake", "type": "TEXTTOIAMGE", **fields}
    answer = client.post(f"{ROOT}/{endpoint}", json=body)
    assert answer.status_code == 400
    assert answer.json()["code"] == 400
    assert "data" not in answer.json()
    assert client.tasks() == []


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b"{", b"\xff", b'{"prompt": NaN}', b"[" * 100_000, b'"' + b"x" * 300_000 + b'"']
)
def test_unreadable_bodies_are_refused(client: Client, raw: bytes) -> None:
    assert client.post(f"{ROOT}/generate", content=raw).json()["code"] == 400


def test_odd_but_usual_submits_are_accepted(client: Client) -> None:
    client.accept(imageUrls=[""], callBackUrl="")
    client.accept(imageUrls=[], callBackUrl=None, watermark=None)
    client.accept(callBackUrl=5)
    client.accept("\ud800 \x00 lone", callBackUrl="http://\ud800/")
    assert len(client.submits()) == len(client.tasks()) == 4


def test_keys(client: Client) -> None:
    for path in (f"{ROOT}/record-info?taskId=x", "/api/v1/common/credit"):
        assert client.get(path, headers={"Authorization": ""}).json()["code"] == 401
    assert client.post(f"{ROOT}/generate", headers={"Authorization": "Bearer"}).status_code == 401
    client.behave(accepted_keys=["right"])
    assert client.submit().status_code == 401
    client.headers["Authorization"] = "Bearer right"
    assert client.submit().status_code == 200


def test_credit_and_unknown_pages(client: Client) -> None:
    assert client.get("/api/v1/common/credit").json() == {"code": 200, "msg": "success", "data": 100}
    client.behave(credits=None)
    assert client.get("/api/v1/common/credit").json()["data"] is None
    assert client.record("nope").json()["code"] == 404
    assert client.record("").json()["code"] == 400
    assert client.get("/nope").json()["code"] == 404


def test_what_was_submitted_is_shown_without_the_key(client: Client) -> None:
    task_id = client.accept("first")
    client.post(f"{ROOT}/generate-2", content=b"torn {", headers={"X-Test": "y"})
    first, second = client.submits()
    assert (first["path"], first["body"]["prompt"]) == (f"{ROOT}/generate", "first")
    assert (first["status"], first["code"], first["fault"], first["task_id"]) == (200, 200, None, task_id)
    assert (second["body"], second["headers"]["x-test"]) == ("torn {", "y")
    assert (second["status"], second["code"], second["task_id"]) == (400, 400, None)
    assert "authorization" not in first["headers"]
    assert "Bearer" not in httpx.Response(200, json=client.submits()).text
