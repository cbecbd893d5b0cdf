"""What a running service logs, and what it never logs."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers.gateway_process import GatewayProcess, run_app
from tests.support.servers.vendor import Reply, Vendor, envelope, success_a
from tests.support.servers.webhook_receiver import Receiver

UPSTREAM, SECRET, CLIENT = "upstream-key-4711", "callback-secret-4711", "client-key-4711-0123456789abc"


@pytest.mark.slow
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_requests_and_tasks_are_logged_without_secrets(tmp_path: Path, vendor: Vendor, log_format: str) -> None:
    settings = {
        "LOG_FORMAT": log_format,
        "LOG_LEVEL": "debug",
        "NANOBANANA_API_KEY": UPSTREAM,
        "NANOBANANA_BASE_URL": vendor.url,
        "SECRET_KEY": SECRET,
        "BOOTSTRAP_API_KEY": CLIENT,
        "HOLD_RETRY_SECONDS": "0.2",
    }
    said = f"your key {UPSTREAM} is odd"
    vendor.script(envelope(401, said), Reply({"code": 200, "data": {"taskId": "a" * 32}}), envelope(400, said))
    answers: list[str] = []
    with GatewayProcess(tmp_path, settings, fresh=True) as gateway:
        gateway.client.headers.update({"Authorization": f"Bearer {CLIENT}", "X-Request-ID": "my-request"})
        task = gateway.client.submit()
        vendor.wait_for_submits(2)
        gateway.client.wait_for(task["id"], "processing")
        submit = vendor.submits[-1]
        sent = [b"garbage", success_a("b" * 32), {"code": 501, "msg": said}, success_a("a" * 32)]
        answers += [vendor.call_back(submit, body).text for body in sent]
        refused = gateway.client.submit()
        gateway.client.wait_for(refused["id"], "failed")
        tokens = [str(s.callback_url).rpartition("/")[2] for s in vendor.submits]
        answers += [gateway.client.get(f"/v1/tasks/{task['id']}{path}").text for path in ("", "/callbacks")]
        answers += [gateway.client.get(path).text for path in ("/v1/tasks", "/readyz", "/nowhere")]
        answers.append(gateway.client.get("/v1/tasks", headers={"Authorization": "Bearer wrong"}).text)
    for secret in (UPSTREAM, SECRET, CLIENT, *tokens):
        assert secret not in gateway.log
        assert secret not in "".join(answers)
    assert "Traceback" not in gateway.log
    if log_format == "console":
        assert task["id"] in gateway.log
        assert "my-request" in gateway.log
        return
    lines: list[dict[str, Any]] = [json.loads(line) for line in gateway.log.splitlines()]
    accepted = [line for line in lines if line.get("task_id") == task["id"] and line["event"] == "task_accepted"]
    assert [line["request_id"] for line in accepted] == ["my-request"]
    assert {"submitted", "callback"} <= {line["event"] for line in lines if line.get("task_id") == task["id"]}
    assert all({"event", "level", "timestamp"} <= set(line) for line in lines)


def test_the_outcomes_of_submits_are_logged_with_their_reasons(tmp_path: Path, vendor: Vendor) -> None:
    vendor.script(
        Reply({"code": 200, "data": {"taskId": "a" * 32}}),
        envelope(400, f"no {UPSTREAM} " + "x" * 999),
        Reply(hang_up=True),
        envelope(500, "busy"),
        envelope(402, "no credits"),
    )
    settings = {"LOG_FORMAT": "json", "NANOBANANA_API_KEY": UPSTREAM, "NANOBANANA_BASE_URL": vendor.url}
    with GatewayProcess(tmp_path, {**settings, "UPSTREAM_CONCURRENCY": "1"}) as gateway:
        for count in range(1, 5):
            gateway.client.submit()
            vendor.wait_for_submits(count)
        vendor.wait_for_submits(5)
        submit = vendor.submits[0]
        vendor.call_back(submit, success_a("a" * 32))
    lines = [json.loads(line) for line in gateway.log.splitlines()]
    submits = [line for line in lines if line["event"] == "submitted"]
    named = ("level", "outcome", "code", "upstream_code")
    assert [tuple(line.get(name) for name in named) for line in submits[:4]] == [
        ("info", "accepted", None, None),
        ("info", "refused", "invalid_request", "400"),
        ("warning", "unknown", "submission_unknown", None),
        ("info", "try_again", "upstream_error", "500"),
    ]
    assert ("account_refused", "402") in [(line["outcome"], line.get("upstream_code")) for line in submits]
    assert submits[1]["reason"].startswith("no ***")
    assert 100 < len(submits[1]["reason"]) <= 300
    assert [line["report"] for line in lines if line["event"] == "callback"] == ["succeeded"]
    assert None not in [value for line in lines for value in line.values()]


GOOGLE = {"NANOBANANA_API_KEY": "AIza-not-a-real-key", "NANOBANANA_BASE_URL": "http://127.0.0.1:1/api"}
PUBLIC = {"PUBLIC_BASE_URL": "https://images.example", "SECRET_KEY": "s" * 20}


@pytest.mark.parametrize(
    ("settings", "warnings", "summary"),
    [
        ({}, {"open": "No API keys: anyone on this machine", "sandbox": ""}, ("sandbox", "callbacks", "none")),
        (
            {"AUTH": "none", "HOST": "0.0.0.0", "NANOBANANA_API_KEY": UPSTREAM},
            {"open": "AUTH=none: keys are not checked. Anyone who can reach"},
            ("live", "polled (no PUBLIC_BASE_URL)", "none"),
        ),
        (
            {"AUTH": "keys", **GOOGLE, **PUBLIC},
            {"no_key": "no active key", "google_key": "Google"},
            ("live", "callbacks", "keys"),
        ),
        (
            {"AUTH": "none", "NANOBANANA_API_KEY": UPSTREAM, **PUBLIC},
            {"open": "AUTH=none: keys are not checked."},
            ("live", "callbacks", "none"),
        ),
    ],
)
def test_the_start_is_logged_with_its_configuration(
    tmp_path: Path, settings: dict[str, str], warnings: dict[str, str], summary: tuple[str, str, str]
) -> None:
    with GatewayProcess(tmp_path, {"LOG_FORMAT": "json", **settings}) as gateway:
        pass
    lines = [json.loads(line) for line in gateway.log.splitlines()]
    warned = {line["event"]: line for line in lines if line["level"] == "warning"}
    assert set(warned) == set(warnings)
    assert all(reason in warned[event]["reason"] for event, reason in warnings.items())
    if "open" in warned:
        assert warned["open"]["hosts"] == ("loopback,images.example" if "PUBLIC_BASE_URL" in settings else "loopback")
        assert "ALLOWED_HOSTS" in warned["open"]["hint"]
    if "no_key" in warned:
        assert "python -m app keys create NAME" in warned["no_key"]["hint"]
    (started,) = [line for line in lines if line["event"] == "started"]
    assert (started["mode"], started["results"], started["auth"]) == summary
    assert (started["database"], started["storage"]) == ("sqlite", "off")
    assert started["upstream"] == settings.get("NANOBANANA_BASE_URL", started["upstream"])


def test_the_upstreams_state_is_logged(tmp_path: Path, vendor: Vendor) -> None:
    vendor.script(envelope(402, "no credits"), Reply({"code": 200, "data": {"taskId": "a" * 32}}))
    settings = {"NANOBANANA_API_KEY": UPSTREAM, "NANOBANANA_BASE_URL": vendor.url, "HOLD_RETRY_SECONDS": "0.1"}
    with GatewayProcess(tmp_path, {"LOG_FORMAT": "json", **settings}) as gateway:
        task = gateway.client.submit()
        gateway.client.wait_for(task["id"], "processing")
    lines = [json.loads(line) for line in gateway.log.splitlines()]
    held, ok = [line for line in lines if line["event"] == "upstream"]
    assert (held["level"], held["state"], held["reason"]) == ("warning", "held", "no credits")
    assert held["until"] > held["timestamp"][:19]
    assert (ok["level"], ok["state"], set(ok)) == ("info", "ok", {"timestamp", "level", "event", "state"})


def test_failed_requests_are_logged_with_their_reasons(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, {"LOG_FORMAT": "json"}) as gateway:
        details = [
            gateway.client.get("/v1/tasks/x").json()["detail"],
            gateway.client.get("/nowhere").json()["detail"],
            gateway.client.get("/v1/tasks", headers={"Host": "evil.example"}).json()["detail"],
            gateway.client.post("/v1/tasks", json={"x" * 300: 1}).json()["detail"][:200],
        ]
    lines = [json.loads(line) for line in gateway.log.splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["code"] for line in requests] == ["task_not_found", "not_found", "host_not_allowed", "invalid_request"]
    assert [line["detail"] for line in requests] == details


def test_webhooks_are_logged_without_secrets(tmp_path: Path, vendor: Vendor, receiver: Receiver) -> None:
    settings = {
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "debug",
        "NANOBANANA_API_KEY": UPSTREAM,
        "NANOBANANA_BASE_URL": vendor.url,
        "SECRET_KEY": SECRET,
        "ALLOW_NETWORKS": "127.0.0.0/8",
    }
    vendor.on_submit = lambda _: envelope(400, "no")
    with GatewayProcess(tmp_path, settings) as gateway:
        task = gateway.client.submit(webhook_url=f"{receiver.url}?key=receivers-secret-4711")["id"]
        (arrived,) = receiver.wait_for(1)
        secrets = [gateway.client.get("/v1/webhook-secret").json()["secret"]]
        secrets.append(gateway.client.post("/v1/webhook-secret/rotate").json()["secret"])
    lines = [json.loads(line) for line in gateway.log.splitlines()]
    (told,) = [line for line in lines if line["event"] == "webhook"]
    assert (told["task_id"], told["delivery_id"], told["status"]) == (task, arrived.headers["webhook-id"], 200)
    assert (told["state"], told["host"]) == ("delivered", receiver.url.split("/")[2])
    for secret in (*secrets, "receivers-secret-4711", arrived.headers["webhook-signature"]):
        assert secret not in gateway.log


def test_keys_and_tokens_are_never_logged(tmp_path: Path, vendor: Vendor) -> None:
    vendor.on_submit = lambda _: envelope(400, "no")
    settings = {"NANOBANANA_API_KEY": UPSTREAM, "NANOBANANA_BASE_URL": vendor.url}
    with GatewayProcess(tmp_path, {"LOG_LEVEL": "debug", "AUTH": "keys", **settings}) as gateway:
        made = run_app(tmp_path, "keys", "create", "first")
        key = made.stdout.splitlines()[-1]
        bearer = {"Authorization": f"Bearer {key}"}
        token = gateway.client.post("/v1/tokens", json={"subject": "user-7"}, headers=bearer).json()["token"]
        refused = [
            gateway.client.get(path, params=query).text
            for path in ("/v1/events", "/v1/tasks", "/nowhere", f"/v1/tasks/{token}", f"/v1/tasks/{key}")
            for query in ({"access_token": key}, {"access_token": token + "x"})
        ]
        task = gateway.client.post(
            "/v1/tasks", json={"prompt": "x"}, headers={"Authorization": f"Bearer {token}", "Prefer": "wait=15"}
        ).json()
        followed = gateway.client.get(f"/v1/tasks/{task['id']}/events", params={"access_token": token})
        assert "task.failed" in followed.text
    assert "browser_token" in gateway.log
    for secret in (key, token, token.partition(".")[2]):
        assert secret not in gateway.log
        assert secret not in "".join([*refused, followed.text])
