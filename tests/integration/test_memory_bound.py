"""The memory that clients can make the service hold: the formula of docs/how-to/size.md, measured under attack."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.integration.moody import Mood
from tests.integration.program import Program, Start, events
from tests.integration.size import figures
from tests.integration.test_durability_outage import memory
from tests.integration.test_signals import make_certificate
from tests.net.http.kit import event, head, post

MEBI = 2**20
QUEUE_BYTES = 32 * MEBI
LARGEST = 4 * MEBI
CONNECTIONS = 1_200
KEYED = b"X-API-Key: secret"
# The formula's parts, but for the queue and the sinks, which have nothing here.
MOST = figures().empty + CONNECTIONS * figures().connection + max(QUEUE_BYTES, 12 * LARGEST) + 8 * MEBI

SETTINGS = {
    "SINKS": "null",
    "DURABILITY": "memory",
    "API_KEYS": "secret",
    "QUEUE_BYTES": str(QUEUE_BYTES),
    "MAX_BODY_BYTES": str(LARGEST),
    "MAX_CONNECTIONS": str(CONNECTIONS),
}


def peak_memory(program: Program) -> int:
    """The most memory that the process has had, in bytes."""
    status = Path(f"/proc/{program.pid}/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def distinct_heads(count: int) -> bytes:
    """Requests whose heads differ, each with many short headers, which take far more memory than their own bytes."""
    many = [b"%x:" % n for n in range(350)]
    return b"".join(post(event(), KEYED, *many[: 30 if n % 2 else 350], b"n: %d" % n) for n in range(count))


def growing() -> bytes:
    """A small body that inflates to a megabyte, and whose messages share what each event has."""
    message = b'{"type":"track","event":"song_played","userId":"u"}'
    batch = b'{"context":{"a":"%b"},"batch":[' % (b"a" * 10_000) + b",".join([message] * (LARGEST // 200)) + b"]}"
    return post(gzip.compress(batch), KEYED, b"Content-Encoding: gzip", path=b"/v1/batch")


ATTACKS = {
    "unfinished heads": (600, head(KEYED)[:-2] + b"x: " + b"a" * 60_000),
    "bodies without a key that stop short": (
        26,
        head(b"Content-Length: %d" % LARGEST, first=b"POST /v1/batch HTTP/1.1") + b" " * (LARGEST - 1),
    ),
    "responses that nobody reads": (20, post(b"{}", KEYED) * 20_000),
    "distinct heads": (20, distinct_heads(300)),
    "bodies with a key that grow": (6, growing()),
    "bodies with a key that stop short": (9, head(KEYED, b"Content-Length: %d" % LARGEST) + b" " * (LARGEST - 1)),
}


@pytest.mark.timeout(60)
def test_the_formula_of_the_documents_holds_under_attack_and_those_with_a_key_are_served(start: Start) -> None:
    program = start(**SETTINGS)
    host, _, port = program.url.removeprefix("http://").partition(":")
    place = (host, int(port))
    with ExitStack() as open_sockets:
        neighbour = open_sockets.enter_context(socket.create_connection(place, timeout=20))
        for name, (clients, data) in ATTACKS.items():
            for _ in range(clients):
                attacker = open_sockets.enter_context(socket.create_connection(place, timeout=20))
                attacker.settimeout(0.02 if name == "responses that nobody reads" else 20)
                with suppress(OSError):  # refused, or no longer read: that is what the bounds are for
                    attacker.sendall(data)
                if name == "distinct heads":
                    attacker.shutdown(socket.SHUT_WR)
                    while attacker.recv(MEBI):
                        pass
            large = event(payload={"a": "" if "with a key" in name else "a" * (LARGEST // 2)})
            for body in (event(), large):
                neighbour.sendall(post(body, KEYED))
                answer = neighbour.recv(4096)
                assert answer.startswith(b"HTTP/1.1 202"), (name, answer)
        assert peak_memory(program) < MOST
    assert program.stop() == 0


MEASURED = 200
"""Connections, and requests of 50 events: enough for what each takes to show."""


class Clients:
    """Connections to a program that stay open."""

    def __init__(self, program: Program, stack: ExitStack) -> None:
        host, _, port = program.url.partition("://")[2].partition(":")
        self._place = (host, int(port))
        self._stack = stack
        self._tls = ssl.create_default_context() if program.url.startswith("https") else None
        if self._tls is not None:
            self._tls.check_hostname, self._tls.verify_mode = False, ssl.CERT_NONE

    def connect(self) -> socket.socket:
        client = self._stack.enter_context(socket.create_connection(self._place, timeout=20))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is None:
            return client
        return self._stack.enter_context(self._tls.wrap_socket(client, server_hostname="localhost"))

    def ask(self, request: bytes) -> socket.socket:
        """A connection whose first request is answered, and whose second one is a head that is unfinished."""
        client = self.connect()
        client.sendall(request)
        assert client.recv(4096).startswith(b"HTTP/1.1 20")
        client.sendall(request.partition(b"\r\n")[0] + b"\r\nx: " + b"a" * 4000)
        return client


def taken(program: Program, work: Callable[[], object]) -> float:
    """Bytes of memory that each of `MEASURED` pieces of work takes, after some that warm up."""
    for _ in range(20):
        work()
    before = memory(program)
    for _ in range(MEASURED):
        work()
    time.sleep(0.2)  # what was sent last is being read
    return (memory(program) - before) / MEASURED


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_an_event_that_waits_and_a_connection_take_what_the_documents_say(
    start: Start, tmp_path: Path, tls: bool
) -> None:
    mood, each = Mood(tmp_path), figures()
    mood.stall()
    environ = mood.environ | {"DURABILITY": "memory", "QUEUE_SIZE": "50000", "HEADER_TIMEOUT": "5m"}
    if tls:
        make_certificate(tmp_path / "tls")
        environ |= {"TLS_CERT": str(tmp_path / "tls" / "tls.crt"), "TLS_KEY": str(tmp_path / "tls" / "tls.key")}
    program = start(**environ)
    found = {}
    with ExitStack() as stack:
        clients = Clients(program, stack)
        found["connection"] = taken(program, lambda: clients.ask(post(event())))
        found["control"] = taken(program, lambda: clients.ask(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"))
        sender = clients.connect()
        body = json.dumps(events(50, "i" * 250, user_id="u" * 256)).encode()

        def send() -> None:
            sender.sendall(post(body))
            assert sender.recv(4096).startswith(b"HTTP/1.1 202")

        found["event"] = (taken(program, send) - len(body)) / 50
    limits = {
        "connection": each.tls_connection if tls else each.connection,
        "control": each.control,
        "event": each.tls_event if tls else each.event,
    }
    assert {name: size for name, size in found.items() if size > limits[name]} == {}, found
