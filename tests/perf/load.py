"""The load of the benchmarks: wrk where it is installed, for a server that answers faster than Python can ask; else
``hermes load``. Open loops at a fixed rate, and everything that needs unique ids, are ``hermes load`` always."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.perf.processes import CLIENT_CORE, Server, pinned

EVENT = (
    '{"id":"6f1c2d3e4a5b6c7d","user_id":"user-123","type":"song_played","timestamp":1700000000,'
    '"payload":{"title":"abc","n":12345,"pad":"xxxxxxxxxxxx"}}'
)
"""150 bytes: the usual size here."""


@dataclass(frozen=True)
class Saturation:
    """What a closed loop got out of a server."""

    requests: int
    per_second: float
    server_cpu_us: float
    """Server's CPU time a request, in microseconds: what the noise of a shared machine changes least."""
    p50_ms: float
    p99_ms: float
    """Latency in this closed loop, in milliseconds: with as many requests always under way as there are connections."""


def saturate(server: Server, seconds: int, folder: Path, *, connections: int = 64, events: int = 1) -> Saturation:
    """As many requests as the server answers over ``connections`` keep-alive connections, from one other core."""
    before = server.cpu_seconds()
    run = _wrk if shutil.which("wrk") else _hermes_load
    requests, per_second, p50, p99 = run(server, seconds, folder, connections, events)
    return Saturation(requests, per_second, (server.cpu_seconds() - before) / requests * 1e6, p50 * 1e3, p99 * 1e3)


def tool() -> str:
    return "wrk" if shutil.which("wrk") else "hermes load (no wrk here: the client may be the limit)"


def _wrk(server: Server, seconds: int, folder: Path, connections: int, events: int) -> tuple[int, float, float, float]:
    script = folder / f"post-{events}.lua"
    lines = "\\n".join([EVENT] * events)
    kind = "application/json" if events == 1 else "application/x-ndjson"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = '{lines}'\nwrk.headers['Content-Type'] = '{kind}'\n"
        "function done(summary, latency) io.write(string.format('errors=%d p50=%.1f p99=%.1f\\n', "
        "summary.errors.status, latency:percentile(50), latency:percentile(99))) end\n"
    )
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), server.url]
    out = subprocess.run(pinned(command, CLIENT_CORE), capture_output=True, text=True, check=True).stdout
    requests, errors = int(_find(r"(\d+) requests in", out)), int(_find(r"errors=(\d+)", out))
    accepted = requests - errors
    per_second = float(_find(r"Requests/sec:\s+([\d.]+)", out)) * accepted / requests
    p50, p99 = (float(_find(rf"{name}=([\d.]+)", out)) / 1e6 for name in ("p50", "p99"))
    return accepted, per_second, p50, p99


def _find(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise RuntimeError(f"wrk printed no {pattern!r}:\n{text}")
    return match[1]


def _hermes_load(
    server: Server, seconds: int, _folder: Path, connections: int, events: int
) -> tuple[int, float, float, float]:
    summary = hermes_load(server, duration=seconds, connections=connections, events=events)
    accepted = summary["codes"].get("202", 0)
    return accepted, accepted / summary["elapsed"], summary["latency"]["p50"], summary["latency"]["p99"]


def hermes_load(server: Server, **options: Any) -> dict[str, Any]:
    """Run ``hermes load`` to its end; its JSON summary. Options are named as on the command line."""
    out = subprocess.run(_command(server, options), capture_output=True, text=True, check=True).stdout
    summary: dict[str, Any] = json.loads(out)
    return summary


def start_hermes_load(server: Server, **options: Any) -> subprocess.Popen[str]:
    """Start ``hermes load`` in the background; it ends by itself."""
    return subprocess.Popen(_command(server, options), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _command(server: Server, options: dict[str, Any]) -> list[str]:
    flags = [f"--{name.replace('_', '-')}" for name, value in options.items() if value is True]
    values = {name: value for name, value in options.items() if not isinstance(value, bool)}
    arguments = [*flags, *(f"--{name.replace('_', '-')}={value}" for name, value in values.items())]
    return pinned([sys.executable, "-m", "hermes", "load", "--json", f"--url={server.url}", *arguments], CLIENT_CORE)
