"""A task's whole path, on both databases."""

from tests.support.servers.gateway import LiveGateway
from tests.support.servers.vendor import Vendor, success_a


def test_a_task_goes_upstream_and_its_callback_brings_the_images(gateway: LiveGateway, vendor: Vendor) -> None:
    task = gateway.client.submit(prompt="a cat", aspect_ratio="16:9", num_images=2, watermark="me", metadata={"a": "b"})
    assert task["status"] == "queued"
    submit = vendor.wait_for_submits(1)[0]
    assert submit.path == "/api/v1/nanobanana/generate"
    assert submit.headers["Authorization"] == "Bearer upstream-key"
    assert submit.body == {
        "prompt": "a cat",
        "type": "TEXTTOIAMGE",
        "callBackUrl": submit.callback_url,
        "numImages": 2,
        "image_size": "16:9",
        "watermark": "me",
    }
    processing = gateway.client.wait_for(task["id"], "processing")
    assert processing["submitted_at"] is not None
    upstream_id = processing["upstream_task_id"]
    answer = vendor.call_back(submit, success_a(upstream_id, "https://tempfile.example/1.png,https://x.example/2.png"))
    assert (answer.status_code, answer.json()) == (200, {"status": "received"})
    done = gateway.client.task(task["id"])
    assert done["status"] == "succeeded"
    assert [image["source_url"] for image in done["images"]] == [
        "https://tempfile.example/1.png",
        "https://x.example/2.png",
    ]
    assert done["metadata"] == {"a": "b"}
