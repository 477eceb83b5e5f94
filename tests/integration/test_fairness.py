"""All clients share one loop: one that keeps it busy must not keep it from the others."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import time

import pytest
import trio

from tests.integration.large_bodies import REQUESTS
from tests.service import open_service

# A process of its own, which always has more to send than a turn of the lane can serve; it ends after 6 s by itself.
FLOOD = """
import socket, sys, threading, time
body = b"{}\\n" * 1000
head = b"POST /events HTTP/1.1\\r\\nHost: x\\r\\nContent-Type: application/x-ndjson\\r\\n"
request = head + b"Content-Length: %d\\r\\n\\r\\n"
client = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def listen():
    while client.recv(1 << 20):
        pass
threading.Thread(target=listen, daemon=True).start()
client.settimeout(2)
end = time.time() + 6
try:
    while time.time() < end:
        client.sendall((request % len(body) + body) * 200)
except OSError:
    pass
"""
# HTTP/2's connection preface, and an empty SETTINGS frame, which the service has to acknowledge with another.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
ACKNOWLEDGED = b"\0\0\0\x04\x01\0\0\0\0"

LONGEST_STEP = 0.015  # seconds of the processor; without slices these requests take from 20 ms to 8 s
ATTEMPTS = 6  # beside other programs the same work may take twice as long


@pytest.fixture(autouse=True)
def _the_collector_passes_over_what_is_there() -> None:
    """As in a service that has started: a walk over what other tests left would be the longest step."""
    gc.collect()
    gc.freeze()


BODY = b'{"id":"1","user_id":"u","type":"song_played","timestamp":1700000000}'
REQUEST = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(BODY), BODY)


def ask_neighbourly(port: int) -> float:
    """The longest of ten requests, in seconds."""
    worst = 0.0
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        for _ in range(10):
            began = time.perf_counter()
            client.sendall(REQUEST)
            assert client.recv(4096).startswith(b"HTTP/1.1 202")
            worst = max(worst, time.perf_counter() - began)
    return worst


def ask_beside_a_flood(port: int) -> float:
    with subprocess.Popen([sys.executable, "-c", FLOOD, str(port)]) as flood:
        time.sleep(1)
        try:
            return ask_neighbourly(port)
        finally:
            flood.terminate()


async def test_a_client_that_always_has_more_does_not_keep_its_neighbours_waiting() -> None:
    async with open_service() as service:
        worst = await trio.to_thread.run_sync(ask_beside_a_flood, service.port)
    # A turn of the lane takes 2 ms, and a request of invalid lines about as much: seconds mean that nobody is served.
    assert worst < 2


class Steps(trio.abc.Instrument):
    """The longest that a step of any task keeps the loop, in seconds of the processor: other programs do not count."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._began = time.thread_time()

    def before_task_step(self, _task: trio.lowlevel.Task) -> None:
        self._began = time.thread_time()

    def after_task_step(self, _task: trio.lowlevel.Task) -> None:
        self.longest = max(self.longest, time.thread_time() - self._began)


def post_beside_a_neighbour(port: int, request: bytes, most: int) -> tuple[bytes, int]:
    """The answer to a large request, and how many events of a neighbour were taken before it came, up to ``most``."""
    served = 0
    with socket.create_connection(("127.0.0.1", port), timeout=50) as client:
        client.sendall(request)
        client.settimeout(0.0)
        with socket.create_connection(("127.0.0.1", port), timeout=50) as neighbour:
            while served < most:
                neighbour.sendall(REQUEST)
                assert neighbour.recv(4096).startswith(b"HTTP/1.1 202")
                served += 1
                try:
                    return client.recv(4096), served
                except BlockingIOError:
                    time.sleep(0.002)
        client.settimeout(50)
        return client.recv(4096), served


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("lines", 202),
        ("array", 202),
        ("array, broken in its last event", 202),
        ("array of zeros", 400),
        ("one event of tiny values", 202),
        ("one event of escapes", 202),
        ("an id of escapes", 400),
        ("one message with a key", 200),
        ("nested too deeply", 400),
        ("brackets before a mistake", 400),
        ("gzip of white space", 400),
        ("deflate of tables", 400),
        ("snappy of empty chunks", 400),
        ("CloudEvents", 413),
        ("one CloudEvent of a text", 400),
        ("one CloudEvent of values", 202),
        ("Segment, shared context", 413),
        ("Segment, large shared context", 400),
        ("Segment, a long query", 200),
        ("OTLP JSON", 200),
        ("OTLP JSON, records of numbers", 400),
        ("OTLP JSON, a large resource and empty records", 413),
        ("OTLP protobuf, records of many values", 400),
        ("OTLP protobuf, quotes", 200),
        ("OTLP protobuf, control characters", 400),
        ("OTLP protobuf, a large resource and empty records", 200),
        ("OTLP protobuf, unknown fields", 400),
        ("OTLP protobuf, empty records, pipelined", 200),
        ("OTLP JSON, empty records, pipelined", 200),
        ("invalid lines, pipelined", 400),
        ("heads of their own, pipelined", 400),
        ("chunks of one byte", 400),
    ],
)
async def test_requests_of_any_protocol_are_served_in_short_steps(name: str, status: int) -> None:
    request = REQUESTS[name]()
    longest = []
    for _ in range(ATTEMPTS):
        async with open_service(event_types=("*",), durability="disk") as service:
            steps = Steps()
            trio.lowlevel.add_instrument(steps)
            answer, served = await trio.to_thread.run_sync(post_beside_a_neighbour, service.port, request.raw, 10)
            trio.lowlevel.remove_instrument(steps)
        assert answer.startswith(b"HTTP/1.1 %d" % status), answer
        assert served >= 1
        longest.append(steps.longest)
        if steps.longest < LONGEST_STEP:
            return
    pytest.fail(f"the longest steps took {longest} s")


def flood_with_settings(port: int) -> int:
    """Send thousands of the smallest frames of HTTP/2. Returns the number of acknowledgements."""
    with socket.create_connection(("127.0.0.1", port), timeout=50) as client:
        client.sendall(PREFACE + SETTINGS * 5000)
        received = b""
        while received.count(ACKNOWLEDGED) < 5000 and (data := client.recv(1 << 16)):
            received += data
    return received.count(ACKNOWLEDGED)


async def test_tiny_frames_of_http2_are_read_in_short_steps() -> None:
    longest = []
    async with open_service() as service:
        for _ in range(ATTEMPTS):
            steps = Steps()
            trio.lowlevel.add_instrument(steps)
            assert await trio.to_thread.run_sync(flood_with_settings, service.port) == 5000
            trio.lowlevel.remove_instrument(steps)
            longest.append(steps.longest)
            if steps.longest < LONGEST_STEP:
                return
    pytest.fail(f"the longest steps took {longest} s")
