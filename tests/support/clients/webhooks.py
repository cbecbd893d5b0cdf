"""Helpers for webhook tests."""

from typing import Any

from tests.support.servers.gateway import LiveGateway
from tests.support.servers.vendor import Reply, Submit, envelope
from tests.support.waiting import until

HOOKED = {"allow_networks": "127.0.0.0/8", "webhook_retry_schedule": "0.2,0.2,0.2"}
"""Settings of a gateway that calls local receivers and retries quickly."""


def refused(_: Submit) -> Reply:
    """Reject a submit, the fastest way to a webhook."""
    return envelope(400, "bad prompt")


def deliveries(gateway: LiveGateway, **query: Any) -> list[dict[str, Any]]:
    """List deliveries, newest first."""
    response = gateway.client.get("/v1/webhook-deliveries", params={"limit": 200, **query})
    assert response.status_code == 200, response.text
    data: list[dict[str, Any]] = response.json()["data"]
    return data


def settled(gateway: LiveGateway, task_id: str, state: str) -> dict[str, Any]:
    """Wait until a task's only delivery is in a state."""

    def look() -> dict[str, Any] | None:
        found = deliveries(gateway, task_id=task_id)
        assert len(found) <= 1
        return found[0] if found and found[0]["state"] == state else None

    return until(look, what=f"{task_id} being {state}")
