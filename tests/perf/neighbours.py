"""How long one event of a neighbour waits while another client sends the largest bodies that are taken."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.integration.large_bodies import REQUESTS, Request
from tests.perf import processes
from tests.perf.load import EVENT
from tests.perf.rows import NO_TARGET, Row

_ONE = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(EVENT), EVENT.encode())
_PAUSE = 0.002  # seconds between two events of the neighbour
_TARGET = 20.0  # milliseconds
_NOBODY = "nobody"


def large_bodies(folder: Path, *, rounds: int) -> list[Row]:
    """The worst wait of a neighbour beside each body, the median of so many rounds, and beside none.

    On a disk it also waits for the commit of all that the body held, which is one.
    """
    in_memory = _measure(folder, rounds, "memory", list(REQUESTS))
    on_disk = _measure(folder, rounds, "disk", ["lines", "Segment, shared context"])
    return [
        _row("longest wait of a neighbour for its 202 beside a body of 10 MiB, of any protocol", in_memory, _TARGET),
        _row("the same beside 93,000 events of NDJSON, on disk", on_disk, None),
    ]


def _measure(folder: Path, rounds: int, durability: str, names: Sequence[str]) -> dict[str, float]:
    settings = {"SINKS": "null", "EVENT_TYPES": "*", "DURABILITY": durability}
    found = {}
    with processes.hermes(folder, settings=settings) as server:
        found[_NOBODY] = median([_beside(server.port, None) for _ in range(rounds)])
        for name in names:
            request = REQUESTS[name]()
            found[name] = median([_beside(server.port, request) for _ in range(rounds)])
    return found


def _row(what: str, found: dict[str, float], target: float | None) -> Row:
    worst = max(found, key=lambda name: found[name] if name != _NOBODY else 0.0)
    return Row(
        what,
        f"{found[worst]:.1f} ms ({worst}); beside nobody {found[_NOBODY]:.1f} ms",
        NO_TARGET if target is None else f"≤ {target:.0f} ms",
        None if target is None else target / found[worst],
        {"milliseconds": found},
    )


def _beside(port: int, request: Request | None) -> float:
    """The longest that the neighbour waits, in milliseconds."""
    waits: list[float] = []
    over = threading.Event()
    neighbour = threading.Thread(target=_ask, args=(port, waits, over))
    neighbour.start()
    time.sleep(0.1)
    if request is None:
        time.sleep(0.5)
    else:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            client.sendall(request.raw)
            client.recv(65536)
        time.sleep(0.2)
    over.set()
    neighbour.join()
    return max(waits)


def _ask(port: int, waits: list[float], over: threading.Event) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        while not over.is_set():
            began = time.perf_counter()
            client.sendall(_ONE)
            client.recv(4096)
            waits.append((time.perf_counter() - began) * 1000)
            time.sleep(_PAUSE)
