"""``make simulate SEEDS=n``: run seeds of the simulation; the exit code is 1 if one of them fails.

``python -m tests.simulation --seed X`` runs one again and prints its whole trace.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from tests.simulation.run import simulate
from tests.simulation.runner import describe, try_seeds

_SHOWN_FAILURES = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=300, help="how many (default 300)")
    parser.add_argument("--first", type=int, default=0, help="the first of them (default 0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each CPU)")
    parser.add_argument("--seed", type=int, help="this one alone, with its whole trace")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return _run_one(arguments.seed)
    return _run_many(range(arguments.first, arguments.first + arguments.seeds), arguments.jobs)


def _run_one(seed: int) -> int:
    result = simulate(seed, keep=10**6)
    print(describe(seed, result.problems, result.trace) if result.problems else "\n".join(result.trace))
    print(f"seed {seed} {'fails' if result.problems else 'passes'}; its trace: {result.digest}")
    return bool(result.problems)


def _run_many(seeds: range, jobs: int) -> int:
    began = time.perf_counter()
    failed: list[int] = []
    tally: Counter[str] = Counter()
    for verdict in try_seeds(seeds, jobs):
        tally += verdict.tally
        if verdict.report:
            failed.append(verdict.seed)
            if len(failed) <= _SHOWN_FAILURES:
                print(verdict.report, end="\n\n", flush=True)
    seconds = time.perf_counter() - began
    print(", ".join(f"{name}: {count:,}" for name, count in sorted(tally.items())))
    print(f"{len(seeds)} seeds from {seeds.start} in {seconds:.0f} s ({len(seeds) / seconds:.1f} a second)")
    print(f"{len(failed)} of them fail: {sorted(failed)}" if failed else "all pass")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
