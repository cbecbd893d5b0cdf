"""Long simulations: python -m tests.simulation --steps 1000000 --seed 1.

Runs batches of lives, each from its own seed, until the number of steps is reached. A failure prints the seed, and how
Hypothesis can replay the same life.
"""

import argparse
import time

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from app.logging import configure_logs
from tests.simulation import machine

_LIVES_PER_BATCH = 50
_STEPS_PER_LIFE = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    configure_logs("console", "error", [])
    profile = settings(
        max_examples=_LIVES_PER_BATCH,
        stateful_step_count=_STEPS_PER_LIFE,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    began = time.monotonic()
    batch = 0
    while machine.steps < arguments.steps:
        current = arguments.seed * 1_000_000 + batch
        print(f"seed {current}: {machine.steps} steps, {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201
        run_state_machine_as_test(seed(current)(machine.TaskLife), settings=profile)
        batch += 1
    print(  # noqa: T201 -- a command's output
        f"{machine.steps} steps in {batch * _LIVES_PER_BATCH} lives, seeds {arguments.seed * 1_000_000} to "
        f"{arguments.seed * 1_000_000 + batch - 1}, {machine.crashes} crashes, {time.monotonic() - began:.0f} s: "
        "every invariant held"
    )


if __name__ == "__main__":
    main()
