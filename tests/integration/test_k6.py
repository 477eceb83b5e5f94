"""k6 as it is, with the script that is shipped: it passes on a service that is well, and fails on one that is not."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.integration.program import Program, Start
from tests.integration.stores import sqlite_count
from tests.needs import lacks

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/load.k6.js"
CROSSED, NOT_READY = 99, 108


def run_k6(folder: Path, url: str, **environ: str) -> tuple[int, dict[str, Any]]:
    """The exit code and the metrics of one run."""
    k6 = Path(sysconfig.get_path("scripts")) / "k6"
    if not k6.exists():
        lacks("k6 is not installed; see the extra `test`")
    summary = folder / "summary.json"
    short = {"RATE": "100", "RAMP": "500ms", "DURATION": "1s", "P99_MS": "5000", "BASE_URL": url}
    command = [str(k6), "run", "--no-usage-report", "--quiet", "--summary-export", str(summary), str(SCRIPT)]
    home = {"HOME": str(folder), "PATH": os.environ["PATH"]}
    finished = subprocess.run(command, env=home | short | environ, capture_output=True, text=True, timeout=50)
    return finished.returncode, json.loads(summary.read_text())["metrics"] if summary.exists() else {}


@pytest.fixture
def program(start: Start) -> Program:
    return start(SINKS="sqlite", API_KEYS="sesame")


def test_the_thresholds_hold_and_every_event_that_k6_counts_is_stored(program: Program, tmp_path: Path) -> None:
    code, metrics = run_k6(tmp_path, program.url, API_KEY="sesame", EVENTS="3")
    assert code == 0, metrics
    accepted = metrics["events_accepted"]["count"]
    assert accepted > 100
    assert program.stop() == 0
    account = program.account()
    assert account["delivered"] == account["accepted"] == accepted
    assert sqlite_count(tmp_path / "hermes-data/events.db") == accepted


def test_a_service_that_refuses_crosses_the_thresholds(program: Program, tmp_path: Path) -> None:
    code, metrics = run_k6(tmp_path, program.url, API_KEY="wrong", DURATION="500ms")
    assert code == CROSSED
    assert metrics["checks"]["passes"] == 0


def test_where_nothing_listens_k6_ends_at_once(tmp_path: Path) -> None:
    assert run_k6(tmp_path, "http://127.0.0.1:9")[0] == NOT_READY
