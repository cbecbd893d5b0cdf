"""The long campaigns: `python -m tests.fuzz --examples 1000 --seed 1`."""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from app.logging import configure_logs
from tests.fuzz.campaign import ALL_PHASES, CALLERS, SETTINGS, run
from tests.support.servers.served import serve
from tests.support.servers.vendor import envelope


def main() -> int:
    """Run a campaign per caller kind; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=500, help="random cases per operation and phase")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    configure_logs("console", "error", [])
    is_clean = True
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with serve(f"sqlite:///{directory / 'fuzz.db'}", directory, **SETTINGS) as served:
            served.vendor.on_submit = lambda _: envelope(400, "no")
            for caller in CALLERS:
                began = time.monotonic()
                outcome = run(served, caller, phases=ALL_PHASES, examples=given.examples, seed=given.seed)
                verdict = "nothing found" if outcome.is_clean else outcome.report
                sys.stdout.write(f"{caller}: {outcome.cases} cases, {time.monotonic() - began:.0f} s: {verdict}\n")
                sys.stdout.flush()
                is_clean &= outcome.is_clean
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
