from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from app.background import LoopTimes
from tests.support.gateway import LiveGateway
from tests.support.hooked import HOOKED
from tests.support.vendor import Vendor

FREQUENT = LoopTimes(check_seconds=0.1)
Start = Callable[..., LiveGateway]


@pytest.fixture
def start(vendor: Vendor, tmp_path: Path) -> Iterator[Start]:
    """Start gateways on SQLite, or wherever a test says, with the settings that it needs."""
    with ExitStack() as stack:

        def run(**settings: Any) -> LiveGateway:
            given = {"data_dir": tmp_path / "data", "secret_key": "s", "loop_times": FREQUENT, **settings}
            return stack.enter_context(LiveGateway(upstream_url=vendor.url, **given))

        yield run


@pytest.fixture
def hooked(start: Start, database_url: str) -> LiveGateway:
    """A gateway on each kind of database that may call receivers on this machine and is quick to try again."""
    return start(database_url=database_url, **HOOKED)
