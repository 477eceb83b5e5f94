"""The processes that are measured: started pinned to a core, watched through /proc, ended by their own id."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVER_CORE = 0
CLIENT_CORE = 1
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")

UVICORN_APP = '''
async def app(scope, receive, send):
    """The least that a JSON endpoint under uvicorn does: read the body, answer 202. It decodes and stores nothing."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", b"14")]
    await send({"type": "http.response.start", "status": 202, "headers": headers})
    await send({"type": "http.response.body", "body": b'{"accepted":1}'})
'''


@dataclass
class Server:
    """A server process and its port on loopback."""

    process: subprocess.Popen[bytes]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/events"

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        return cpu_seconds(self.process.pid)

    def rss_mib(self) -> float:
        """Resident memory now."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * _PAGE / 2**20

    def metric(self, name: str) -> float:
        """A metric of Hermes, summed over its labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def cpu_seconds(pid: int) -> float:
    """User and system time of a running process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pinned(command: Sequence[str], core: int | None) -> list[str]:
    """The command, on one core only where that can be had."""
    if core is None or (os.cpu_count() or 1) < 2:
        return list(command)
    return ["taskset", "-c", str(core), *command]


def wait_listening(port: int, process: subprocess.Popen[bytes], within: float = 30.0) -> None:
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args!r} ended with {process.returncode} before it listened") from None
            time.sleep(0.005)
        else:
            return
    raise RuntimeError(f"{process.args!r} does not listen on {port} within {within} s")


@contextmanager
def running(
    command: Sequence[str], port: int, *, core: int | None, environ: Mapping[str, str], stdout: int, folder: Path
) -> Iterator[Server]:
    log = (folder / f"server-{port}.log").open("wb")
    process = subprocess.Popen(
        pinned(command, core), env={**os.environ, **environ}, stdout=stdout, stderr=log, cwd=folder
    )
    try:
        wait_listening(port, process)
        yield Server(process, port)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        log.close()


def hermes(
    folder: Path, core: int | None = SERVER_CORE, *, settings: Mapping[str, str], stalled: bool = False
) -> AbstractContextManager[Server]:
    """A running ``hermes serve``, with a data folder of its own unless its environment, ``settings``, names one.

    ``stalled``: its stdout is a pipe that nobody reads, for the sink of that name.
    """
    port = free_port()
    environ = {
        "HTTP_ADDR": f"127.0.0.1:{port}",
        "ADMIN_ADDR": "off",
        "LOG_FORMAT": "json",
        "HERMES_DATA_DIR": tempfile.mkdtemp(prefix="data-", dir=folder),
        **settings,
    }
    stdout = subprocess.PIPE if stalled else subprocess.DEVNULL
    command = [sys.executable, "-m", "hermes", "serve"]
    return running(command, port, core=core, environ=environ, stdout=stdout, folder=folder)


def uvicorn(folder: Path, core: int | None = SERVER_CORE) -> AbstractContextManager[Server]:
    """uvicorn with uvloop and httptools, and a bare ASGI app."""
    (folder / "bare_asgi.py").write_text(UVICORN_APP)
    port = free_port()
    command = [
        *(sys.executable, "-m", "uvicorn", "bare_asgi:app", "--port", str(port), "--loop", "uvloop"),
        *("--http", "httptools", "--no-access-log", "--log-level", "warning"),
    ]
    return running(command, port, core=core, environ={}, stdout=subprocess.DEVNULL, folder=folder)
