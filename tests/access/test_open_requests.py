"""Limits on the streams and waiting requests of one caller."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.domain.browser_token import BrowserToken
from app.domain.caller import Caller
from app.server.limits import ConnectionLimits
from app.web.open_requests import OpenLimits, OpenRequests
from tests.support.clients.event_reader import EventReader
from tests.support.clients.keys import KEY, V1, bearer, create_key, make, submit
from tests.support.databases.sqlite import create_sqlite
from tests.support.servers.served import Served, serve
from tests.support.waiting import until

LIMITS = OpenLimits(total=10, per_key=6, per_token=2, per_subject=3)


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Served]:
    given = {"bootstrap_api_key": KEY, "open_limits": LIMITS}
    with serve(create_sqlite(tmp_path / "test.db"), tmp_path, **given) as served:
        yield served


def count(served: Served) -> int:
    return served.gateway.container.events.open_requests.count


def follow(served: Served, secret: str, stack: ExitStack) -> EventReader:
    return stack.enter_context(served.follow(**bearer(secret)))


def refused_for(stream: EventReader) -> str:
    """Return whose limit the error names."""
    assert stream.problem() == (429, "too_many_open_requests")
    assert stream.headers["Retry-After"] == "5"
    return stream.detail().partition(" has ")[0]


def test_a_token_a_subject_and_a_key_each_have_a_limit(limited: Served) -> None:
    first, second, other = make(limited), make(limited), make(limited, "user-8")
    with ExitStack() as stack:
        assert [follow(limited, first, stack).status for _ in range(2)] == [200, 200]
        assert refused_for(follow(limited, first, stack)) == "This browser token"
        assert follow(limited, second, stack).status == 200
        assert refused_for(follow(limited, second, stack)) == "This subject"
        assert [follow(limited, other, stack).status for _ in range(2)] == [200, 200]
        assert follow(limited, KEY, stack).status == 200
        # Its tokens' streams count for a key, too.
        assert refused_for(follow(limited, KEY, stack)) == "This API key"
        _, another = create_key(limited.database_url, "another")
        assert [follow(limited, another, stack).status for _ in range(4)] == [200] * 4
        assert follow(limited, another, stack).problem() == (503, "too_many_streams")
        # Requests that don't stay open are served all the same.
        assert limited.client.get(V1, headers=bearer(first)).status_code == 200
    until(lambda: count(limited) == 0, what="the end of all streams")
    with ExitStack() as stack:
        assert follow(limited, first, stack).status == 200


def test_waits_count_and_are_answered_at_once_beyond_the_limit(limited: Served) -> None:
    token, secret = make(limited), KEY
    task = submit(limited, token).json()
    path = f"{V1}/{task['id']}"
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(1))
        follow(limited, token, stack)
        pool.submit(limited.client.get, f"{path}?wait=60", headers=bearer(token))
        until(lambda: count(limited) == 2, what="a stream and a wait")
        got = limited.client.get(f"{path}?wait=60", headers=bearer(token))
        posted = submit(limited, token, Prefer="wait=60")
        assert (got.status_code, posted.status_code) == (200, 202)
        assert "Preference-Applied" not in got.headers.keys() | posted.headers.keys()
        assert refused_for(follow(limited, token, stack)) == "This browser token"
        assert limited.client.get(f"{path}?wait=0", headers=bearer(secret)).headers["Preference-Applied"] == "wait=0"
        limited.gateway.begin_to_stop()


def test_without_keys_only_the_process_has_a_limit(tmp_path: Path) -> None:
    with serve(create_sqlite(tmp_path / "test.db"), tmp_path, open_limits=LIMITS) as served, ExitStack() as stack:
        streams = [stack.enter_context(served.follow()) for _ in range(11)]
        assert [stream.status for stream in streams] == [200] * 10 + [503]


@pytest.mark.parametrize("connections", [ConnectionLimits().connections, 3_584, 64])
def test_no_caller_can_take_all_connections(connections: int) -> None:
    limits = OpenLimits.of_connections(connections)
    assert connections * 0.8 < limits.total <= connections - connections // 8
    assert limits.total * 0.8 < limits.per_key <= limits.total - limits.total // 8


def test_nothing_is_kept_of_a_caller_without_open_requests() -> None:
    requests = OpenRequests(OpenLimits(total=3, per_key=3))
    caller = Caller("shop", "user-7", "key_1", BrowserToken("tok_1", "shop", "user-7", "key_1", 1, 0))
    with requests.opened(caller), requests.opened(caller):
        assert requests.count == 2
    assert (requests.count, requests._of_holders) == (0, {})  # noqa: SLF001 -- no other way to see it
