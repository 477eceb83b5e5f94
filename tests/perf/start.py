"""From the start of the process to its first 202."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from tests.perf import processes
from tests.perf.load import EVENT
from tests.perf.rows import Row

_REQUEST = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(EVENT), EVENT.encode())


def first_202(folder: Path, *, rounds: int) -> list[Row]:
    """The embedded default, the sqlite sink, each time; the first start, which compiles, is not counted."""
    seconds = [_measure(folder) for _ in range(rounds + 1)][1:]
    return [
        Row(
            "process start to first 202",
            f"{median(seconds):.2f} s (of {rounds}: {min(seconds):.2f} to {max(seconds):.2f})",
            "< 1.5 s",
            1.5 / median(seconds),
            {"seconds": seconds},
        )
    ]


def _measure(folder: Path) -> float:
    port = processes.free_port()
    environ = {
        "HTTP_ADDR": f"127.0.0.1:{port}",
        "ADMIN_ADDR": "off",
        "SINKS": "sqlite",
        "HERMES_DATA_DIR": str(folder / "start"),
    }
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "hermes", "serve"], env={**os.environ, **environ}, stderr=subprocess.DEVNULL
    )
    try:
        processes.wait_listening(port, process)
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(_REQUEST)
            answer = client.recv(4096)
        elapsed = time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(30)
    if not answer.startswith(b"HTTP/1.1 202"):
        raise RuntimeError(f"no 202: {answer!r}")
    return elapsed
