"""Load generators: wrk if installed, else the bundled one.

Requests are prepared before the measurement. Each connection sends its next request when the last response has
arrived, so latencies are those of a saturated server, not of a given rate.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.processes import run, run_python

_SCRIPT = Path(__file__).with_name("wrk.lua")
_TIMEOUT_SECONDS = 15
_PATIENCE_SECONDS = 120
_MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """Encoded requests; with `is_once`, none may be sent twice."""

    requests: Sequence[bytes]
    is_once: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """The results of a load; latencies are in seconds.

    `refused` counts responses other than 2xx, `broken` requests without a response.
    """

    answered: int
    refused: int
    broken: int
    seconds: float
    p50: float
    p99: float
    longest: float
    per_connection: Sequence[int] = ()
    """Responses per connection; empty if the generator doesn't report them."""

    @property
    def rate(self) -> float:
        """2xx responses per second."""
        return self.answered / self.seconds

    @property
    def failed(self) -> int:
        """Requests without a 2xx response."""
        return self.refused + self.broken


class Generator(Protocol):
    """Puts load on a local server."""

    name: str

    def run(self, port: int, plan: Plan, *, connections: int, seconds: float) -> Outcome:
        """Send the plan's requests; raises `UsedUp` if they run out."""
        ...


class UsedUp(Exception):
    """The prepared requests ran out early, leaving the rate unknown."""


class Wrk:
    """wrk, with a single thread."""

    name = "wrk"

    def run(self, port: int, plan: Plan, *, connections: int, seconds: float) -> Outcome:
        """Send the plan's requests; raises `UsedUp`."""
        with tempfile.NamedTemporaryFile(suffix=".requests") as file:
            write_requests(Path(file.name), plan)
            command = ["wrk", "-t1", f"-c{connections}", f"-d{_whole(seconds)}s", f"--timeout={_TIMEOUT_SECONDS}s"]
            command += ["-s", str(_SCRIPT), f"http://127.0.0.1:{port}/", "--", file.name]
            output = run([*command, "once" if plan.is_once else "again"], seconds=seconds + _PATIENCE_SECONDS)
        lines = [line.split() for line in output.splitlines()]
        answers, refused, broken, late, took, p50, p99, longest = next(
            [int(number) for number in line[1:]] for line in lines if line[:1] == ["result"]
        )
        sent = next(int(line[1]) for line in lines if line[:1] == ["sent"])
        if plan.is_once and sent > len(plan.requests):
            raise UsedUp
        return Outcome(
            answered=answers - refused,
            refused=refused,
            broken=broken + late,
            seconds=took / _MICROSECONDS,
            p50=p50 / _MICROSECONDS,
            p99=p99 / _MICROSECONDS,
            longest=longest / _MICROSECONDS,
        )


class Bundled:
    """Our own generator, slower than wrk.

    It needs no installation, reports each connection, and waits for all responses.
    """

    name = "bundled"

    def run(self, port: int, plan: Plan, *, connections: int, seconds: float) -> Outcome:
        """Send the plan's requests; raises `UsedUp`."""
        with tempfile.NamedTemporaryFile(suffix=".requests") as file:
            write_requests(Path(file.name), plan)
            numbers = ["--port", str(port), "--connections", str(connections), "--seconds", str(seconds)]
            more = ["--once"] if plan.is_once else []
            module = "benchmarks.generator"
            output = run_python(module, file.name, *numbers, *more, seconds=seconds + _PATIENCE_SECONDS)
        result = json.loads(output)
        if result.pop("is_used_up"):
            raise UsedUp
        return Outcome(**result)


def choose(name: str | None = None) -> Generator:
    """Return a generator by name; by default wrk if installed."""
    if name == Bundled.name or (name is None and shutil.which("wrk") is None):
        return Bundled()
    return Wrk()


def request(method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
    """Encode an HTTP request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *(f"{k}: {v}" for k, v in (headers or {}).items())]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def write_requests(path: Path, plan: Plan) -> None:
    """Write each request after a line with its length."""
    with path.open("wb") as file:
        for one in plan.requests:
            file.write(b"%d\n%s" % (len(one), one))


def _whole(seconds: float) -> int:
    """Round seconds, as wrk accepts only integers."""
    return max(round(seconds), 1)
