"""How long one event of a neighbour waits while another client sends the largest bodies that are taken."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from statistics import median

from tests.integration.large_bodies import REQUESTS, Request
from tests.perf import processes
from tests.perf.load import EVENT
from tests.perf.rows import Row

_ONE = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(EVENT), EVENT.encode())
_PAUSE = 0.002  # seconds between two events of the neighbour
_TARGET = 20.0  # milliseconds


def large_bodies(folder: Path, *, rounds: int) -> list[Row]:
    """The worst wait of a neighbour beside each body, the median of so many rounds, and beside none."""
    settings = {"SINKS": "null", "EVENT_TYPES": "*"}
    found: dict[str, float] = {}
    with processes.hermes(folder, settings=settings) as server:
        found["nobody"] = median([_beside(server.port, None) for _ in range(rounds)])
        for name, make in REQUESTS.items():
            request = make()
            found[name] = median([_beside(server.port, request) for _ in range(rounds)])
    worst = max(found, key=lambda name: found[name])
    return [
        Row(
            "longest wait of a neighbour for its 202 beside a body of 10 MiB, of any protocol",
            f"{found[worst]:.1f} ms ({worst}); beside nobody {found['nobody']:.1f} ms",
            f"≤ {_TARGET:.0f} ms",
            _TARGET / found[worst],
            {"milliseconds": found},
        )
    ]


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
