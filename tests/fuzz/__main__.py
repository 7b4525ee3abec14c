"""Runs fuzz targets for as long as asked: `python -m tests.fuzz NAME… --minutes 30`. Without a name it lists them.

What fails is made smaller, printed, and remembered in .hypothesis, so that the next run begins with it.
"""

from __future__ import annotations

import argparse
import random
import sys
from time import monotonic

from hypothesis import HealthCheck, given, seed, settings

from tests.fuzz.targets import TARGETS, Target

BATCH = 2000
"""Examples between two looks at the clock."""


def batch(name: str, target: Target) -> None:
    @seed(random.getrandbits(64))
    @settings(max_examples=BATCH, deadline=None, suppress_health_check=list(HealthCheck), derandomize=False)
    @given(target.drawn)
    def fuzz(drawn: object) -> None:
        target.check(drawn)

    fuzz.__qualname__ = name
    fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *TARGETS], help=", ".join(TARGETS))
    parser.add_argument("--minutes", type=float, default=1.0, help="for each target (1)")
    arguments = parser.parse_args()
    if not arguments.names:
        print("\n".join(f"{name:16}{target.says}" for name, target in TARGETS.items()))
    for name in arguments.names:
        until, examples = monotonic() + arguments.minutes * 60, 0
        while monotonic() < until:
            batch(name, TARGETS[name])
            examples += BATCH
        print(f"{name}: about {examples} examples, nothing found", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
