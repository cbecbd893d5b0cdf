"""The tables in docs/reference/access.md match the code."""

import re

import pytest

from app.main import create_app
from app.settings import Settings
from app.web.permissions import QUERY_TOKEN_ROUTES, TOKEN_ROUTES
from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "reference" / "access.md").read_text()
ROW = re.compile(r"^\| `([A-Z]+) (\S+)` \| (yes|no)\b[^|]* \| (yes|no)\b([^|]*) \| (yes|no)\b[^|]* \|$", re.MULTILINE)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], bool]:
    """Each documented route, and whether it requires a key."""
    settings = Settings(_env_file=None, data_dir=tmp_path_factory.mktemp("data"))
    document = create_app(settings, upstream_url="http://127.0.0.1:9", upstream_key="key").openapi()
    return {
        (method.upper(), path): bool(operation["security"])
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }


def test_the_table_says_who_may_call_what(secured: dict[tuple[str, str], bool]) -> None:
    rows = {(m[1], m[2]): tuple(m[n] == "yes" for n in (3, 4, 6)) for m in ROW.finditer(TEXT)}
    stated = TEXT.split("## Who may call what", 1)[1].split("\n## ", 1)[0]
    assert len(rows) == stated.count("\n| `")
    assert secured.keys() <= rows.keys()
    assert rows.keys() - secured.keys() <= TOKEN_ROUTES
    for route, needs_key in secured.items():
        assert rows[route] == (not needs_key, not needs_key or route in TOKEN_ROUTES, True), route


def test_the_table_lists_the_routes_that_accept_a_token_in_the_query() -> None:
    assert {(m[1], m[2]) for m in ROW.finditer(TEXT) if "access_token" in m[5]} == QUERY_TOKEN_ROUTES


def test_token_routes_exist_in_the_openapi_document(secured: dict[tuple[str, str], bool]) -> None:
    """A typo in `TOKEN_ROUTES` would block a route."""
    assert TOKEN_ROUTES - {("POST", "/v1/uploads")} <= secured.keys()
    assert all(secured[route] for route in TOKEN_ROUTES & secured.keys())
