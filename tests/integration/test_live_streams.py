"""The streams of the admin address over real connections: how they end, and what a client that does not read costs."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from datetime import datetime

import httpx
import pytest
import trio

from tests.integration.program import Program, Start, events
from tests.service import open_service


class Reader:
    """A client that reads one stream, and leaves at its end."""

    def __init__(self, url: str) -> None:
        self._opened = ExitStack()
        response = self._opened.enter_context(httpx.stream("GET", url, timeout=20))
        assert response.status_code == 200
        self._lines = response.iter_lines()
        self.first = next(self._lines)

    def read_to_the_end(self) -> list[str]:
        with self._opened:
            return list(self._lines)


def test_open_streams_do_not_delay_a_stop(start: Start) -> None:
    program = start(SINKS="null", DURABILITY="memory")
    live = [Reader(f"{program.admin_url}/live") for _ in range(3)]
    taps = [Reader(f"{program.admin_url}/tap") for _ in range(3)]
    program.send_signal(signal.SIGTERM)
    assert [reader.read_to_the_end()[-3:] for reader in live] == [["event: end", "data: {}", ""]] * 3
    assert [reader.read_to_the_end() for reader in taps] == [[]] * 3
    assert program.wait() == 0
    moments = {line["event"]: datetime.fromisoformat(line["timestamp"]) for line in program.lines}
    assert (moments["account"] - moments["stopping"]).total_seconds() < 1


def tap(program: Program, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "hermes", "tap", "--url", program.admin_url, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_hermes_tap_follows_what_is_posted_and_top_shows_it(start: Start) -> None:
    program = start(SINKS="null", DURABILITY="memory", EVENT_TYPES="*")
    all_of_mine = tap(program, "--user", "me", "--json", "--limit", "2")
    odd = tap(program, "--type", "odd")
    payload = {"escape": "\x1b[2J", "c1": "\x9b31m"}
    found = [*events(2, "mine", payload=payload), *events(1, "theirs", user_id="them", type="odd")]

    def tapped() -> bool:
        # Until both are there, what is posted is not theirs to see.
        body = "\n".join(json.dumps(event, ensure_ascii=False) for event in found)
        httpx.post(f"{program.url}/events", content=body.encode(), headers={"Content-Type": "application/x-ndjson"})
        return all_of_mine.poll() is not None

    program.wait_until(tapped)
    text, complaints = all_of_mine.communicate()
    assert (all_of_mine.returncode, complaints) == (0, "")
    assert [json.loads(line) for line in text.splitlines()] == events(2, "mine", payload=payload)
    assert text.replace("\n", "").isprintable()

    top = [sys.executable, "-m", "hermes", "top", "--url", program.admin_url, "--json"]
    status = json.loads(subprocess.run(top, capture_output=True, check=True, timeout=20).stdout)
    shown = status["parts"]["events"]
    assert shown["by_type"]["song_played"] >= 2
    assert [sink["name"] for sink in shown["sinks"]] == ["null"]

    assert odd.stdout is not None
    assert odd.stdout.readline().endswith('odd  them  theirs-0  {"title": "Alive"}\n')
    odd.send_signal(signal.SIGINT)
    _, complaints = odd.communicate(timeout=30)
    assert (odd.returncode, complaints) == (0, "")


def test_hermes_tap_shows_what_was_rejected_and_why(start: Start) -> None:
    program = start(SINKS="null", DURABILITY="memory")
    found = [*events(1, "good"), *events(1, "bad", type="un\x1blisted")]
    httpx.post(f"{program.url}/events", json=found)
    httpx.post(f"{program.url}/events", content=b"{")
    seen = tap(program, "--rejected", "--limit", "2")
    text, complaints = seen.communicate(timeout=20)
    assert (seen.returncode, complaints) == (0, "")
    first, second = text.splitlines()
    assert "/events  202  index 1 of its request  " in first
    assert "not in EVENT_TYPES" in first
    assert "\x1b" not in text
    assert "/events  400  whole request  JSON is malformed" in second
    (line,) = (line for line in program.lines if line["event"] == "invalid events rejected")
    assert (line["route"], line["events"], line["index"]) == ("/events", 1, 1)


async def test_a_stream_outlives_the_time_that_a_silent_client_is_given() -> None:
    async with open_service(idle_timeout=1.5, body_timeout=1.5) as service:
        address = service.running.edges.admin_addresses[0]
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            began = trio.current_time()
            found = b""
            with trio.fail_after(10):
                while found.count(b"event: status") < 3:
                    data = await stream.receive_some()
                    assert data, "it was cut"
                    found += data
            assert trio.current_time() - began > 1.5


async def test_one_who_does_not_read_is_sent_away_and_holds_nothing() -> None:
    async with open_service(write_timeout=0.2) as service:
        sock = trio.socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await sock.connect(service.running.edges.admin_addresses[0])
        async with trio.SocketStream(sock) as stream:
            await stream.send_all(b"GET /tap HTTP/1.1\r\nHost: localhost\r\n\r\n")
            intake = service.engine.intake
            with trio.fail_after(10):
                found = b""
                while b"\r\n\r\n1\r\n\n" not in found:  # with the first, empty line it has its place
                    found += await stream.receive_some(100)
                assert intake.tap.listening
                payload = {"filling": "x" * 100_000}
                async with httpx.AsyncClient(base_url=f"http://{service.host}:{service.port}") as client:
                    while intake.tap.listening:
                        answer = await client.post("/events", json=events(20, "large", payload=payload))
                        assert answer.status_code in {202, 503}


async def test_no_more_may_watch_than_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hermes.net.control.live.MOST_STREAMS", 2)
    async with (
        open_service() as service,
        httpx.AsyncClient(base_url=service.admin_url) as client,
        client.stream("GET", "/live") as one,
    ):
        async with client.stream("GET", "/live") as other:
            assert (one.status_code, other.status_code) == (200, 200)
            assert (await client.get("/live")).status_code == 503
        with trio.fail_after(5):
            while True:
                async with client.stream("GET", "/live") as third:
                    if third.status_code == 200:
                        break
