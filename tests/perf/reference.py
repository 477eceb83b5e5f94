"""The one committed run of ``make bench`` that the documents quote, and the text that they take from it.

Invariant: a figure in `FIGURES` or `COMPARISON` between the markers comes out of `REFERENCE`, and nowhere else.
``scripts/figures`` writes the text, and a test compares.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.perf.rows import Row

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "bench-results/reference.json"
FIGURES = ROOT / "docs/figures.md"
COMPARISON = ROOT / "docs/explanation/why-not.md"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"

_PACKAGES = ("trio", "msgspec", "psycopg", "httptools", "uvicorn")


def describe(measured: Mapping[str, Sequence[Row]], *, quick: bool) -> dict[str, Any]:
    """The run as JSON: when, on which machine, with which versions, and the rows of each measurement."""
    return {
        "when": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "processor": _processor(),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
            "kernel": platform.release(),
        },
        "versions": {
            "python": platform.python_version(),
            "postgres": _postgres(),
            **{name: version(name) for name in _PACKAGES},
        },
        "quick": quick,
        "measurements": {name: [row.to_dict() for row in rows] for name, rows in measured.items()},
    }


def figures(run: Mapping[str, Any]) -> str:
    """The table of ``docs/figures.md``."""
    lines = [
        f"Measured in one run of `make bench`, {run['when']} UTC: {_machine(run)}. The load, Hermes and the database",
        "share these cores. Read the ratios: another machine has other times, and so has this one at another hour.",
        "",
        "| what | measured | must reach |",
        "|---|---|---|",
    ]
    for row in _rows(run):
        target = "" if row["score"] is None else row["target"] + ("" if row["reached"] else ": **not reached**")
        lines.append(f"| {_cell(row['what'])} | {_cell(row['measured'])} | {_cell(target)} |")
    return "\n".join(lines)


def comparison(run: Mapping[str, Any]) -> str:
    """The paragraph about speed of ``docs/explanation/why-not.md``."""
    compared = [f"- {_cell(row['what'])}: {_cell(row['measured'])}" for row in _rows(run) if row["compared"]]
    return "\n".join([f"In one run of `make bench` ({_machine(run)}):", "", *compared])


def between(text: str) -> str:
    """What stands between the markers of a document. Raises ValueError where they are missing."""
    _before, begin, rest = text.partition(BEGIN)
    inside, end, _after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the lines {BEGIN} and {END} are missing")
    return inside.strip()


def replace(text: str, made: str) -> str:
    """The document with ``made`` between its markers."""
    inside = between(text)
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{rest.partition(END)[2]}" if inside != made else text


def load() -> dict[str, Any]:
    """The committed run."""
    document: dict[str, Any] = json.loads(REFERENCE.read_text())
    return document


def _rows(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [row for rows in run["measurements"].values() for row in rows]


def _machine(run: Mapping[str, Any]) -> str:
    machine, versions = run["machine"], run["versions"]
    return (
        f"{machine['cores']} shared cores ({machine['processor']}), {machine['memory_gib']} GiB, "
        f"Python {versions['python']}, PostgreSQL {versions['postgres']}"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("psql \\copy", "`psql \\copy`")


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    return found[1] if found else platform.machine()


def _postgres() -> str:
    folder = subprocess.run(
        [ROOT / "scripts/find-postgres"], capture_output=True, text=True, check=False
    ).stdout.strip()
    said = subprocess.run([f"{folder}/postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return said.split()[2]
