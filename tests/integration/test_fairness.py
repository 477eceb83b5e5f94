"""The fast lane is one task: a client that keeps it busy must not keep it from the others."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import trio

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
