"""One event a POST: requests a second, and latency at a fixed rate, against uvicorn with a bare app, in turns.

That app keeps nothing, so Hermes is asked to keep nothing either; what the journal costs is measured in `durable`.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

from tests.perf import load, processes
from tests.perf.rows import Row

_RATE = 5000
_KEEPS_NOTHING = {"SINKS": "null", "DURABILITY": "memory"}


def throughput(folder: Path, *, rounds: int, seconds: int) -> list[Row]:
    """Both servers on one core, 64 keep-alive connections, the null sink; the load from the other core."""
    with processes.hermes(folder, settings=_KEEPS_NOTHING) as ours, processes.uvicorn(folder) as theirs:
        pairs = [(load.saturate(ours, seconds, folder), load.saturate(theirs, seconds, folder)) for _ in range(rounds)]
    ratio = median(a.per_second / b.per_second for a, b in pairs)
    cpu_ratio = median(b.server_cpu_us / a.server_cpu_us for a, b in pairs)
    ours_rate, theirs_rate = median(a.per_second for a, _ in pairs), median(b.per_second for _, b in pairs)
    return [
        Row(
            "one event a POST, fast lane, one core, 64 connections, against uvicorn",
            f"{ratio:.2f} × ({ours_rate:,.0f}/s to {theirs_rate:,.0f}/s; by server CPU {cpu_ratio:.2f} ×)",
            "≥ 2 × uvicorn",
            ratio / 2,
            {
                "hermes_per_second": [round(a.per_second) for a, _ in pairs],
                "uvicorn_per_second": [round(b.per_second) for _, b in pairs],
                "hermes_cpu_us": [round(a.server_cpu_us, 2) for a, _ in pairs],
                "uvicorn_cpu_us": [round(b.server_cpu_us, 2) for _, b in pairs],
                "ratio": ratio,
                "cpu_ratio": cpu_ratio,
                "load": load.tool(),
            },
            compared=True,
        )
    ]


def latency(folder: Path, *, rounds: int, seconds: int) -> list[Row]:
    """An open loop of 5,000 requests a second; each latency is from the moment its request was due."""
    with processes.hermes(folder, settings=_KEEPS_NOTHING) as ours, processes.uvicorn(folder) as theirs:
        runs: dict[str, list[dict[str, float]]] = {"hermes": [], "uvicorn": []}
        for _ in range(rounds):
            for name, server in (("hermes", ours), ("uvicorn", theirs)):
                summary = load.hermes_load(server, duration=seconds, connections=64, rate=_RATE, warmup=1)
                runs[name].append({key: seconds * 1000 for key, seconds in summary["latency"].items()})
    middle = {
        name: {key: median(run[key] for run in found) for key in ("p50", "p99", "p99_9")}
        for name, found in runs.items()
    }
    ours_ms, theirs_ms = middle["hermes"], middle["uvicorn"]

    def words(ms: dict[str, float]) -> str:
        return " / ".join(f"{ms[key]:.2f}" for key in ("p50", "p99", "p99_9"))

    return [
        Row(
            "the same at 5,000 requests/s: p50 / p99 / p99.9, in ms",
            f"{words(ours_ms)} (uvicorn {words(theirs_ms)})",
            "p99 under uvicorn's",
            theirs_ms["p99"] / ours_ms["p99"],
            {"runs": runs},
        )
    ]
