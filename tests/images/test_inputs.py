"""Which input images the upstream can be expected to fetch."""

import ipaddress

import pytest

from app.domain.destination import DestinationRules
from app.errors import InvalidRequest
from app.images.inputs import InputCheck

BASE = "http://127.0.0.1:8000"
LAN = ipaddress.ip_network("10.0.0.0/8")
PRIVATE = ["http://10.0.0.1/a.png", "http://files.internal/a.png"]


def check(urls: list[str], *, allowed: bool = False, is_sandbox: bool = False) -> None:
    rules = DestinationRules([LAN] if allowed else [])
    InputCheck(destinations=rules, base_url=BASE, is_sandbox=is_sandbox).check(urls)


def test_uploads_public_images_and_images_in_the_request_pass() -> None:
    check([f"{BASE}/v1/uploads/upl_{'0' * 32}", "https://img.example.com/a.png", "data:image/png;base64,AAAA"])


def test_every_private_image_is_named() -> None:
    with pytest.raises(InvalidRequest) as caught:
        check(["https://img.example.com/a.png", *PRIVATE])
    assert [error["field"] for error in caught.value.errors] == ["image_urls.1", "image_urls.2"]


def test_allowed_networks_pass() -> None:
    check(PRIVATE, allowed=True)


def test_the_sandbox_can_fetch_from_private_addresses() -> None:
    check(PRIVATE, is_sandbox=True)
