"""Generates an image: `python client.py "a lake at sunset" lake.png`."""

import json
import os
import sys
import uuid
from pathlib import Path
from urllib.request import Request, urlopen

BASE = os.environ.get("GATEWAY_URL", "http://127.0.0.1:8000")
AUTH = {"Authorization": f"Bearer {key}"} if (key := os.environ.get("GATEWAY_KEY")) else {}
FINISHED = {"succeeded", "failed", "canceled"}


def call(method: str, path: str, body: object = None, **headers: str) -> dict:
    """Call the API; raises `HTTPError` for error responses."""
    sent = AUTH | {name.replace("_", "-"): value for name, value in headers.items()}
    data = json.dumps(body).encode() if body is not None else None
    request = Request(BASE + path, data, {**sent, "Content-Type": "application/json"}, method=method)
    with urlopen(request, timeout=90) as response:
        return json.load(response)


if not sys.argv[2:]:
    sys.exit('usage: python client.py "PROMPT" FILE')
prompt, path = sys.argv[1:3]
# The key makes the request safe to repeat. The gateway responds as soon as the task has finished.
task = call("POST", "/v1/tasks", {"prompt": prompt}, Idempotency_Key=uuid.uuid4().hex, Prefer="wait=60")
while task["status"] not in FINISHED:
    task = call("GET", f"/v1/tasks/{task['id']}?wait=60")
if task["status"] != "succeeded":
    sys.exit(f"{task['id']} {task['status']}: {task['error']}")
with urlopen(task["images"][0]["url"], timeout=90) as image:
    Path(path).write_bytes(image.read())
print(task["id"], task["images"][0]["url"])
