"""One campaign: Schemathesis sends valid and invalid requests."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.clients.keys import KEY, make
from tests.support.paths import ROOT
from tests.support.servers.served import Served

ALL_PHASES = "examples,coverage,fuzzing,stateful"
CALLERS = ("anonymous", "key", "token")
_CONFIG = Path(__file__).with_name("schemathesis.toml")
# Settings of the gateway: with keys, without a rate limit, and with uploads.
SETTINGS = {"bootstrap_api_key": KEY, "key_rate_limit": "0", "public_base_url": "http://localhost"}


@dataclass(frozen=True)
class Outcome:
    """The result of a campaign; `report` is for people."""

    cases: int
    is_clean: bool
    report: str


def run(served: Served, caller: str, *, phases: str, examples: int, seed: int) -> Outcome:
    """Run a campaign as one kind of caller.

    The phase `coverage` derives cases from the OpenAPI document; `fuzzing` and `stateful` generate up to `examples`
    random cases per operation.
    """
    credentials = {"anonymous": None, "key": KEY}
    credential = credentials[caller] if caller in credentials else make(served, ttl_seconds=86_400, max_tasks=10_000)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(_CONFIG), "run"]
    command += [f"{served.gateway.settings.local_url}/openapi.json", "--no-color"]
    command += ["--phases", phases, "--max-examples", str(examples), "--seed", str(seed)]
    if credential is not None:
        command += ["--header", f"Authorization: Bearer {credential}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = re.search(r"(\d+) generated", done.stdout)
    return Outcome(int(found[1]) if found else 0, done.returncode == 0, f"{done.stdout}\n{done.stderr}")
