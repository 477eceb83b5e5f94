"""Starts ``hermesmqd``, a process of its own, and asks its HTTP address."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 20


def free_port() -> int:
    """A port where nobody listens, for now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Daemon:
    """A running daemon."""

    process: subprocess.Popen[bytes]
    port: int
    metrics_port: int

    @property
    def address(self) -> str:
        """Where its clients connect."""
        return f"127.0.0.1:{self.port}"

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a path of its HTTP address."""
        connection = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


@contextmanager
def run_daemon(folder: Path, *flags: str, port: int = 0, silent: bool = False) -> Iterator[Daemon]:
    """Run a daemon on ``folder``, with its log lines unless ``silent``; at the end it is killed, if it still runs."""
    port, metrics_port = port or free_port(), free_port()
    command = [sys.executable, "-m", "hermes.broker.daemon", "--data-dir", str(folder)]
    command += ["--client-addr", f"127.0.0.1:{port}", "--metrics-addr", f"127.0.0.1:{metrics_port}", *flags]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL if silent else None)
    try:
        daemon = Daemon(process, port, metrics_port)
        until = time.monotonic() + START_SECONDS
        while True:
            assert process.poll() is None, "the daemon has ended"
            try:
                # Not its own port: a connection there might still count when the first client of a test comes.
                assert daemon.get("/health")[0] == 200
                break
            except OSError:
                assert time.monotonic() < until, "the daemon does not listen"
                time.sleep(0.02)
        yield daemon
    finally:
        process.kill()
        process.wait()
