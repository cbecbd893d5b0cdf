from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.gateway import LiveGateway
from tests.support.vendor import Vendor

Start = Callable[..., LiveGateway]


@pytest.fixture
def start(vendor: Vendor, tmp_path: Path) -> Iterator[Start]:
    """Start gateways on SQLite, or wherever a test says, with the settings that it needs."""
    with ExitStack() as stack:

        def run(**settings: Any) -> LiveGateway:
            given = {"data_dir": tmp_path / "data", "secret_key": "s", **settings}
            return stack.enter_context(LiveGateway(upstream_url=vendor.url, **given))

        yield run
