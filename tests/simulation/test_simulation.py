"""Nothing that was accepted is lost, over and over: many seeds, each a world of its own in which things go wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.simulation.run import simulate
from tests.simulation.runner import try_seeds

ROOT = Path(__file__).resolve().parent.parent.parent
SEEDS = 40
REPLAYED = (0, 1, 2, 3)

EXPECTED = (
    "answers 202",
    "answers 408",
    "answers 422",
    "answers 503",
    "answers 504",
    "crashes",
    "dead-lettered",
    "delivered again",
    "dropped journal_full",
    "promised",
    "put back",
    "refused by the disk",
    "replayed",
    "spilled",
    "torn files",
)
"""What so many seeds must have met with, or they prove less than it seems."""


@pytest.mark.timeout(600)
def test_every_seed_ends_with_all_that_was_promised_stored_once_and_nothing_invented() -> None:
    tally: Counter[str] = Counter()
    reports = []
    for verdict in try_seeds(range(SEEDS), min(2, os.cpu_count() or 1)):
        tally += verdict.tally
        if verdict.report:
            reports.append(verdict.report)
    assert not reports, "\n\n".join(reports[:3])
    assert not [name for name in EXPECTED if not tally[name]], tally


@pytest.mark.timeout(300)
def test_a_seed_replays_exactly_here_and_in_other_processes() -> None:
    digests = [simulate(seed).digest for seed in REPLAYED]
    assert [simulate(seed).digest for seed in REPLAYED] == digests
    program = f"from tests.simulation.run import simulate\nfor s in {REPLAYED}: print(simulate(s).digest)"
    for hash_seed in ("1", "2"):
        environ = {**os.environ, "PYTHONHASHSEED": hash_seed}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environ, cwd=ROOT, capture_output=True, check=True, text=True
        )
        assert done.stdout.split() == digests
