"""A service below a path of its public URL, behind proxies that remove the path and such that pass it on."""

import json
from urllib.parse import urljoin

import pytest

from tests.support.fixtures import Start
from tests.support.images.samples import encode, noise
from tests.support.servers.gateway import LiveGateway
from tests.support.servers.vendor import Vendor

PUBLIC = "https://example.com/my%20images"
PREFIX = "/my%20images"


@pytest.fixture
def below(start: Start) -> LiveGateway:
    return start(public_base_url=f"{PUBLIC}/", auth="none", allowed_hosts="127.0.0.1")


@pytest.mark.parametrize("passed_on", ["", PREFIX])
def test_locations_lead_to_what_they_name(below: LiveGateway, passed_on: str) -> None:
    client = below.client
    task = client.post(f"{passed_on}/v1/tasks", json={"prompt": "a cat"})
    picture, headers = encode(noise(8, 8), "PNG"), {"Content-Type": "image/png"}
    upload = client.post(f"{passed_on}/v1/uploads", content=picture, headers=headers)
    for created, path in [(task, "tasks"), (upload, "uploads")]:
        location = created.headers["location"]
        assert location == f"{PREFIX}/v1/{path}/{created.json()['id']}"
        assert client.get(passed_on + location.removeprefix(PREFIX)).status_code == 200
    assert upload.json()["url"] == f"https://example.com{upload.headers['location']}"


@pytest.mark.parametrize("home", ["/", PREFIX, f"{PREFIX}/"])
def test_the_home_page_and_the_document_stay_below_the_path(below: LiveGateway, home: str) -> None:
    assert below.client.get(home).headers["location"] == f"{PREFIX}/docs"
    page = below.client.get(f"{PREFIX}/docs").text
    assert 'src="docs/start.js"' in page
    document = json.loads(below.client.get(f"{PREFIX}/openapi.json").content)
    (server,) = document["servers"]
    # As Swagger UI joins them to try an operation out.
    assert urljoin(f"{PUBLIC}/openapi.json", server["url"]) + "/v1/tasks" == f"{PUBLIC}/v1/tasks"


@pytest.mark.parametrize("path", ["/my%20imagesv1/tasks", "/other/v1/tasks", f"{PREFIX}{PREFIX}/v1/tasks"])
def test_other_paths_are_not_ours(below: LiveGateway, path: str) -> None:
    assert below.client.get(path).status_code == 404


@pytest.mark.parametrize("passed_on", ["", PREFIX])
def test_errors_lead_to_their_explanation(below: LiveGateway, passed_on: str) -> None:
    problem = below.client.get(f"{passed_on}/v1/tasks/task_0").json()
    assert problem["type"] == f"{PREFIX}/docs/errors#task_not_found"
    assert below.client.get(problem["type"].partition("#")[0]).status_code == 200


def test_callbacks_come_by_the_public_url(below: LiveGateway, vendor: Vendor) -> None:
    task = below.client.submit(prompt="a cat")
    address = vendor.wait_for_submit_of(task["id"]).callback_url
    assert address.startswith(f"{PUBLIC}/callbacks/nanobanana/")
    for path in (address.removeprefix("https://example.com"), address.removeprefix(PUBLIC)):
        body = {"code": 200, "msg": "success", "data": {"taskId": "up-1", "info": {}}}
        assert below.client.post(path, json=body).status_code < 500
        assert below.client.post(path + "x", json=body).status_code == 404
