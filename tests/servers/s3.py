"""An S3-compatible server of the tests' own: moto in a process, on a free loopback port. What it stores is in memory.

Invariant: nothing outlives `S3Server.remove()`. Every method blocks for a bounded time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from http.client import HTTPConnection
from pathlib import Path

from pyarrow import fs

from tests.servers.postgres import POLL_INTERVAL, START_TIMEOUT, STOP_TIMEOUT, free_port

ACCESS_KEY = "test-key"
SECRET_KEY = "test-secret"
REGION = "us-east-1"


class S3Server:
    """A running server without buckets. It takes every key for valid."""

    def __init__(self) -> None:
        self.port = free_port()
        self._output = Path(tempfile.mkstemp(prefix="hermes-s3-")[1])
        # Not the machine's own AWS configuration, whatever it is.
        environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                env=environ,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._wait_ready()

    @property
    def endpoint(self) -> str:
        """Its address, as SINK_PARQUET_ENDPOINT takes it."""
        return f"http://127.0.0.1:{self.port}"

    def files(self) -> fs.S3FileSystem:
        """A client of it that may also make buckets."""
        return fs.S3FileSystem(
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            region=REGION,
            endpoint_override=f"127.0.0.1:{self.port}",
            scheme="http",
            allow_bucket_creation=True,
        )

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause()`."""
        self._process.send_signal(signal.SIGCONT)

    def remove(self) -> None:
        """End the server."""
        self._process.kill()
        self._process.wait(STOP_TIMEOUT)
        self._output.unlink()

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=1)
            try:
                connection.request("GET", "/")
                connection.getresponse().read()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    output = self._output.read_text(errors="replace")
                    self.remove()
                    raise TimeoutError(f"the S3 server did not start:\n{output}") from None
                time.sleep(POLL_INTERVAL)
            else:
                return
            finally:
                connection.close()
