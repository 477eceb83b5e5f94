"""``make bench``: every figure that Hermes claims, measured side by side in one run.

Prints a table, and writes JSON and a chart under ``bench-results/``; ``scripts/figures --adopt`` makes the run the one
that the documents quote. It is no test: a shared machine decides much of a single time, so read the ratios. ``--quick``
shortens everything, ``--only WORD`` picks rows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.perf import (
    broker,
    chart,
    dispatcher,
    durable,
    endurance,
    fast_lane,
    into_postgres,
    log_appends,
    many_events,
    neighbours,
    reference,
    replay,
    start,
)
from tests.perf.rows import Row

RESULTS = Path("bench-results")
_VERDICTS = {True: "[green]yes[/]", False: "[red]no[/]", None: ""}


def _dispatcher(_folder: Path, *, seconds: float) -> list[Row]:
    found = dispatcher.measure(seconds)
    rate = found["items_per_second"]
    what = "Dispatcher, 150-byte items, 1 MiB batches"
    return [Row(what, f"{rate / 1e6:.2f} million items/s", "≥ 1.5 million items/s", rate / 1.5e6, dict(found))]


def plan(quick: bool) -> dict[str, Callable[[Path], list[Row]]]:
    """The measurements by name, in the order of the table."""
    rounds, seconds, minute = (2, 2, 20) if quick else (3, 5, 60)
    return {
        "fast-lane": partial(fast_lane.throughput, rounds=rounds, seconds=seconds),
        "latency": partial(fast_lane.latency, rounds=rounds, seconds=seconds),
        "postgres": partial(into_postgres.measure, rounds=rounds, rows=300_000 if quick else 1_000_000),
        "postgres-sink": partial(many_events.sink_alone, rounds=3, rows=200_000),
        "null": partial(many_events.null_sink, seconds=seconds),
        "neighbours": partial(neighbours.large_bodies, rounds=1 if quick else 3),
        "durable-null": partial(durable.null_sink, rounds=rounds, seconds=seconds),
        "durable-single": partial(durable.single, rounds=rounds, seconds=seconds),
        "durable-latency": partial(durable.latency, rounds=rounds, seconds=seconds),
        "log-latency": partial(log_appends.latency, rounds=rounds, seconds=1 if quick else 2),
        "log-appends": partial(log_appends.appends, rounds=rounds, seconds=seconds),
        "broker": partial(broker.throughput, rounds=rounds, seconds=seconds),
        "broker-latency": partial(broker.latency, seconds=2 * seconds),
        "broker-machine": partial(broker.machine, rounds=rounds),
        "replay": partial(replay.after_crash, rounds=1 if quick else 3, rows=300_000 if quick else 1_000_000),
        "dispatcher": partial(_dispatcher, seconds=seconds),
        "memory": partial(endurance.memory, seconds=minute),
        "sagging": partial(endurance.sagging, seconds=max(minute, 20)),
        "start": partial(start.first_202, rounds=5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench ARGS=", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few minutes less, and noisier")
    parser.add_argument("--only", default="", help="run only the measurements whose name holds this word")
    arguments = parser.parse_args()
    console = Console()
    measured: dict[str, list[Row]] = {}
    RESULTS.mkdir(exist_ok=True)
    # Beside the results, for the system's folder for temporary files may be in memory, where to sync costs nothing.
    with tempfile.TemporaryDirectory(prefix="running-", dir=RESULTS.resolve()) as temporary:
        for name, measure in plan(arguments.quick).items():
            if arguments.only in name:
                with console.status(f"measuring {name} ..."):
                    measured[name] = measure(Path(temporary))
    rows = [row for found in measured.values() for row in found]
    table = Table("what", "measured", "must reach", "", header_style="bold")
    for row in rows:
        table.add_row(row.what, row.measured, row.target, _VERDICTS[row.reached])
    console.print(table)
    _write(measured, quick=arguments.quick)
    console.print(f"JSON and chart: {RESULTS}/latest.json, {RESULTS}/latest.svg")


def _write(measured: dict[str, list[Row]], *, quick: bool) -> None:
    run = reference.describe(measured, quick=quick)
    (RESULTS / "latest.json").write_text(json.dumps(run, indent=2) + "\n")
    rows = [row for found in measured.values() for row in found]
    (RESULTS / "latest.svg").write_text(chart.draw(rows, run["when"]))


if __name__ == "__main__":
    main()
