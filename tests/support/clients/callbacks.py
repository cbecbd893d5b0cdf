"""The vendor's callback bodies, and the gateway's responses."""

from typing import Any

import httpx

from tests.support.servers.served import Served

LIMIT = 1024 * 1024
URL = "https://tempfile.example/a.png"
RECEIVED, DUPLICATE = {"status": "received"}, {"status": "duplicate"}


def failure_a(upstream_id: str, code: Any, message: str = "no luck") -> dict[str, Any]:
    return {"code": code, "msg": message, "data": {"taskId": upstream_id, "info": {"resultImageUrl": ""}}}


def shape_b(upstream_id: str, flag: Any, **more: Any) -> dict[str, Any]:
    data = {"taskId": upstream_id, "successFlag": flag, "response": None, "errorCode": None, "errorMessage": None}
    return {"code": 200, "msg": "success", "data": {**data, **more}}


def post(served: Served, url: str, content: bytes) -> httpx.Response:
    return served.client.post(url, content=content, headers={"Content-Type": "application/json"})


def answer(response: httpx.Response) -> tuple[int, Any]:
    body = response.json()
    return response.status_code, body if response.status_code == 200 else body["code"]


def sources(task: dict[str, Any]) -> list[str]:
    return [image["source_url"] for image in task["images"]]
