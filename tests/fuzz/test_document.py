"""Short, deterministic versions of the `make fuzz` campaigns."""

from collections.abc import Iterator

import pytest

from tests.fuzz.campaign import ALL_PHASES, SETTINGS, run
from tests.support.servers.served import Served, serve
from tests.support.servers.vendor import envelope


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    with serve(f"sqlite:///{directory / 'test.db'}", directory, **SETTINGS) as served:
        served.vendor.on_submit = lambda _: envelope(400, "no")
        yield served


# More than a thousand requests, each with many checks.
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("caller", "phases", "examples", "least"),
    [
        ("key", ALL_PHASES, 3, 950),
        ("anonymous", "coverage,fuzzing", 10, 1_000),
        ("token", "fuzzing,stateful", 4, 75),
    ],
)
def test_what_the_document_allows_and_forbids_is_what_is_done(
    served: Served, caller: str, phases: str, examples: int, least: int
) -> None:
    outcome = run(served, caller, phases=phases, examples=examples, seed=1)
    assert outcome.is_clean, outcome.report
    assert outcome.cases >= least
