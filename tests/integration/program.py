"""``hermes serve`` as a process, and clients that load it: what the tests of the real program are made of.

Invariant: every wait is bounded, and ends at once with the program's log when the program ends before its time.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import trio

from tests.http_client import Client, post

START_SECONDS = 20.0
STOP_SECONDS = 20.0
DRAIN_SECONDS = 30.0
LOOK_SECONDS = 0.02


class Program:
    """``hermes serve`` in a process. ``log`` is all that it has written to stderr."""

    def __init__(self, folder: Path, *parts: str, **environ: str) -> None:
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        self._log = folder / f"stderr-{time.monotonic_ns()}"
        with self._log.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hermes", "serve", *parts],
                cwd=folder,
                env=inherited | {"HTTP_ADDR": "127.0.0.1:0", "ADMIN_ADDR": "127.0.0.1:0"} | environ,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log lines that are JSON."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    @property
    def pid(self) -> int:
        return self._process.pid

    def account(self) -> dict[str, Any]:
        """The account of the one sink, from the exit log."""
        (account,) = self.accounts().values()
        return account

    def accounts(self) -> dict[str, dict[str, Any]]:
        """The account of every sink, from the exit log."""
        return {line["sink"]: line for line in self.lines if line["event"] == "account"}

    def accounting(self) -> dict[str, Any]:
        """What /debug/accounting says now, of which the equation holds."""
        books: dict[str, Any] = httpx.get(f"{self.admin_url}/debug/accounting", timeout=START_SECONDS).json()
        for account in books["sinks"]:
            assert_balanced(account)
            assert account["accepted"] - account["replayed"] <= books["accepted"]
        return books

    def drain(self) -> dict[str, Any]:
        """Wait until every sink has all and the journal is empty; what /debug/accounting says then."""
        found: dict[str, Any] = {}

        def drained() -> bool:
            found.update(self.accounting())
            journal = found["journal"]
            return not any(account["in_flight"] for account in found["sinks"]) and journal["first"] == journal["next"]

        self.wait_until(drained, DRAIN_SECONDS)
        assert found["journal"]["bytes"] == 0
        return found

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._find_url("Hermes listens on ", "url")

    @property
    def admin_url(self) -> str:
        """Where operators are answered."""
        return self._find_url("See:  ", "admin")

    def _find_url(self, greeting: str, field: str) -> str:
        """Out of the greeting of the console format, or of the first line of JSON."""
        pattern = re.compile(rf'(?:{greeting}|"{field}": ")(http[^\s"]+?)/?["\n]')
        self.wait_until(lambda: pattern.search(self.log) is not None)
        found = pattern.search(self.log)
        assert found, self.log
        return found[1]

    def wait_for_log(self, words: str) -> None:
        self.wait_until(lambda: words in self.log)

    def wait_until(self, reached: Callable[[], bool], within: float = START_SECONDS) -> None:
        """Look until it is so; the program must not end meanwhile."""
        end = time.monotonic() + within
        while not reached():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(LOOK_SECONDS)

    def send_signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def wait(self) -> int:
        """Its exit code. An account that does not add up is a failure of every test."""
        code = self._process.wait(STOP_SECONDS)
        assert "the books do not balance" not in self.log, self.log
        return code

    def stop(self) -> int:
        """Ask for a graceful stop, as an orchestrator does; its exit code."""
        self.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        if self.runs:
            self._process.kill()
        self._process.wait(STOP_SECONDS)


Start = Callable[..., Program]
"""Starts a program with the variables that are given by name."""


def assert_balanced(account: dict[str, Any]) -> None:
    """Every accepted event has exactly one outcome, or is on its way."""
    outcomes = [account[name] for name in ("delivered", "dead_lettered", "evicted", "spilled", "in_flight")]
    outcomes += account["dropped"].values()
    assert min(outcomes) >= 0, account
    assert account["accepted"] == sum(outcomes), account


def events(count: int, prefix: str, **fields: Any) -> list[dict[str, Any]]:
    plain = {"user_id": "me", "type": "song_played", "timestamp": 1_700_000_000, "payload": {"title": "Alive"}}
    return [{"id": f"{prefix}-{n}"} | plain | fields for n in range(count)]


class Load:
    """Clients that post as fast as they are answered. ``taken`` has the ids of every 202."""

    def __init__(self, url: str) -> None:
        self.address = httpx.URL(url)
        self.taken: list[str] = []
        self.codes: set[int] = set()
        self._numbers = iter(range(10**9))

    async def run(self, *, clients: int, pause: float = 0.0, task_status: trio.TaskStatus[None]) -> None:
        """Post until cancelled, or until the service is gone."""
        async with trio.open_nursery() as nursery:
            for _ in range(clients):
                nursery.start_soon(self._post, pause)
            task_status.started()

    async def _post(self, pause: float) -> None:
        assert self.address.port
        async with await trio.open_tcp_stream(self.address.host, self.address.port) as stream:
            client = Client(stream)
            while True:
                found = events(20, f"load-{next(self._numbers)}")
                body = "\n".join(map(json.dumps, found)).encode()
                try:
                    answer = await client.ask(post(body, b"Content-Type: application/x-ndjson"))
                except (EOFError, trio.BrokenResourceError):
                    return
                self.codes.add(answer.status)
                if answer.status == 202:
                    assert answer.json == {"accepted": 20}
                    self.taken += [event["id"] for event in found]
                await trio.sleep(pause)
