"""Many seeds on many processes, and what to print about the one that fails.

Invariant: a seed that never ends fails like any other, by the real clock. Called by the command line and by the test.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from traceback import format_exception
from types import FrameType

from tests.simulation.plan import make_plan
from tests.simulation.run import simulate

_LONGEST_SECONDS = 60
_SHOWN_LINES = 40


@dataclass(frozen=True)
class Verdict:
    """What is known of a seed when it is over. ``report`` is empty for one that has passed."""

    seed: int
    report: str
    digest: str
    tally: Counter[str]


def try_seed(seed: int) -> Verdict:
    """Run one seed in this process, within `_LONGEST_SECONDS` of real time. What goes wrong is in the verdict."""
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_LONGEST_SECONDS)
    try:
        result = simulate(seed)
    except Exception as error:  # noqa: BLE001 - the other seeds have to be tried all the same
        return Verdict(seed, describe(seed, ["the run itself broke"], format_exception(error)), "", Counter())
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    report = describe(seed, result.problems, result.trace[-_SHOWN_LINES:]) if result.problems else ""
    return Verdict(seed, report, result.digest, result.tally)


def try_seeds(seeds: Iterable[int], jobs: int) -> Iterator[Verdict]:
    """Run seeds in ``jobs`` processes; the verdicts come as they are ready."""
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(try_seed, seeds, chunksize=4)


def describe(seed: int, problems: Iterable[str], trace: Iterable[str]) -> str:
    """All that helps to find out why a seed fails, and the command that runs it again."""
    return "\n".join(
        [
            f"seed {seed} fails",
            *(f"  * {problem}" for problem in problems),
            "",
            *(f"  {line}" for line in str(make_plan(seed)).splitlines()),
            "",
            *(f"  {line}" for line in trace),
            "",
            f"again, with the whole trace: python -m tests.simulation --seed {seed}",
        ]
    )


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"the seed did not end within {_LONGEST_SECONDS} s: something spins")
