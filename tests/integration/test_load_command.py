"""`hermes load` as a person runs it: a process of its own, its output, and Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from functools import partial

import pytest
import trio

from tests.load.server import open_server


async def run_command(*arguments: str, stop_with: signal.Signals | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end; with a signal, send that once its first line of progress has come."""
    command = [sys.executable, "-m", "hermes", "load", *arguments]
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(
                partial(trio.run_process, command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
            )
            assert process.stdout is not None
            assert process.stderr is not None
            errors = b""
            if stop_with is not None:
                while b"\n" not in errors:
                    errors += await process.stderr.receive_some()
                process.send_signal(stop_with)
            output = b"".join([part async for part in process.stdout])
            errors += b"".join([part async for part in process.stderr])
            await process.wait()
    assert process.returncode is not None
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


async def test_the_json_summary_is_all_that_stdout_holds() -> None:
    async with open_server() as server:
        done = await run_command("--url", server.url, "--total", "50", "--connections", "4", "--json")
    assert done.returncode == 0
    summary = json.loads(done.stdout)
    assert summary["requests"] == 50
    assert summary["codes"] == {"202": 50}
    assert set(summary["latency"]) == {"p50", "p90", "p99", "p99_9", "max"}


async def test_the_summary_is_a_table_otherwise() -> None:
    async with open_server() as server:
        done = await run_command("--url", server.url, "-n", "50", "-e", "5", "--quiet")
    assert done.returncode == 0
    assert done.stderr == b""
    text = done.stdout.decode()
    assert "p99.9" in text
    assert ["events", "250"] in [line.split()[:2] for line in text.splitlines()]
    assert ["202", "50", "100.00%"] in [line.split() for line in text.splitlines()]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_the_run_and_prints_the_summary_so_far(stop: signal.Signals) -> None:
    async with open_server() as server:
        done = await run_command("--url", server.url, "--duration", "60s", "--json", stop_with=stop)
    assert done.returncode == 130
    summary = json.loads(done.stdout)
    assert summary["interrupted"] is True
    assert 0 < summary["requests"] <= len(server.requests)
    assert b"Traceback" not in done.stderr
    assert done.stderr.splitlines()[0].startswith(b"load 5")


async def test_nobody_listening_is_one_line_and_status_1() -> None:
    async with open_server() as server:
        url = server.url
    done = await run_command("--url", url)
    assert done.returncode == 1
    assert done.stdout == b""
    assert done.stderr.startswith(b"hermes: cannot connect to http://127.0.0.1:")
    assert len(done.stderr.splitlines()) == 1


async def test_a_server_that_never_answers_makes_status_1() -> None:
    async with open_server(b"not http\r\n\r\n") as server:
        done = await run_command("--url", server.url, "--total", "3", "--quiet", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["errors"] == {"malformed": 3}
    assert done.stderr.startswith(b"hermes: no request was answered (3 malformed): is a Hermes at this --url")


async def test_a_server_that_refuses_makes_status_1_and_a_line_that_says_why() -> None:
    async with open_server(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n") as server:
        done = await run_command("--url", server.url, "--total", "3", "--quiet", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["codes"] == {"401": 3}
    assert done.stderr == (
        b"hermes: 3 of 3 requests were refused: 3 with 401; give one of its API_KEYS with --header 'X-API-Key: ...'\n"
    )


async def test_a_server_that_dies_during_the_run_makes_status_1() -> None:
    async def die() -> None:
        while len(server.requests) < 100:  # noqa: ASYNC110 - the server of the tests has no event for it
            await trio.sleep(0.01)
        server.die()

    async with open_server() as server, trio.open_nursery() as nursery:
        nursery.start_soon(die)
        done = await run_command("--url", server.url, "--duration", "1s", "--quiet", "--json")
    assert json.loads(done.stdout)["codes"]["202"] >= 100
    assert done.returncode == 1
    assert b"did the server stop" in done.stderr


async def test_on_a_terminal_the_display_is_live() -> None:
    terminal, end = pty.openpty()
    try:
        async with open_server() as server:
            command = [sys.executable, "-m", "hermes", "load", "--url", server.url, "--duration", "1s"]
            environment = {**os.environ, "TERM": "xterm"}
            with trio.fail_after(30):
                done = await trio.run_process(command, stderr=end, capture_stdout=True, env=environment)
        shown = os.read(terminal, 1 << 16).decode()
    finally:
        os.close(terminal)
        os.close(end)
    assert b"p99.9" in done.stdout
    assert shown.count("s left") >= 2
    assert "\x1b[2K" in shown, "drawn over, line by line"
