"""A ClickHouse of the tests' own, on a free loopback port: `tests.servers.clickhouse_engine` in a process.

The newest release comes with the tests' environment, older ones with ``scripts/install-clickhouse``.

Invariant: nothing outlives `ClickHouseServer.remove()`, neither the process nor a file. The methods block for a short
time.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
from msgspec import json

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "pass word"
NEWEST = "newest"
RELEASES = ("24.8", "25.8", NEWEST)
"""The least that the sink takes, the long-term release after it, and the engine of the tests' environment."""
STOP_TIMEOUT = 20.0


class ServerUnavailableError(Exception):
    """No ClickHouse can be run here; the message says what is missing."""


class ClickHouseServer:
    """One running server. Raises `ServerUnavailableError` where the engine of the release is not installed."""

    def __init__(self, release: str = NEWEST) -> None:
        engine = Path(sys.prefix, "clickhouse", release)
        if release == NEWEST and importlib.util.find_spec("chdb") is None:
            raise ServerUnavailableError("there is no ClickHouse: pip install chdb")
        if release != NEWEST and not engine.is_dir():
            raise ServerUnavailableError(f"there is no ClickHouse {release}: scripts/install-clickhouse")
        self.release = release
        self._folder = tempfile.mkdtemp(prefix="hermes-clickhouse-")
        self._tables = itertools.count(1)
        self._client = httpx.Client(headers={"x-clickhouse-key": PASSWORD}, timeout=20, trust_env=False)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.clickhouse_engine", self._folder, PASSWORD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=os.environ | ({} if release == NEWEST else {"PYTHONPATH": str(engine)}),
            start_new_session=True,  # a Ctrl-C at the tests is not the server's
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline()
        if not port:
            self.remove()
            raise ServerUnavailableError("the engine did not start")
        self.url = f"http://127.0.0.1:{int(port)}"

    def new_table(self) -> str:
        """A name that no other test uses."""
        return f"events_{next(self._tables)}"

    def execute(self, statement: str) -> list[dict[str, Any]]:
        """The rows of a statement, with its numbers as JSON's."""
        text = f"{statement} FORMAT JSONEachRow" if statement.startswith("SELECT") else statement
        settings = {"output_format_json_quote_64bit_integers": "0"} if statement.startswith("SELECT") else {}
        answer = httpx.post(
            self.url, params={"query": text, **settings}, headers={"x-clickhouse-key": PASSWORD}, timeout=20
        )
        assert answer.status_code == 200, answer.text
        return [json.decode(line) for line in answer.content.splitlines()]

    def remove(self) -> None:
        """End the process, and delete its files."""
        self._client.close()
        self._process.kill()  # an orderly end takes seconds, and nobody wants the data
        self._process.communicate(timeout=STOP_TIMEOUT)
        shutil.rmtree(self._folder)
