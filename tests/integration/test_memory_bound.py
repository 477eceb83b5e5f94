"""The memory that clients can make the service hold: the formula of docs/how-to/size.md, measured under attack."""

from __future__ import annotations

import gzip
import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.http.kit import event, head, post
from tests.integration.program import Program, Start

MEBI = 2**20
QUEUE_BYTES = 32 * MEBI
LARGEST = 4 * MEBI
CONNECTIONS = 1_200
KEYED = b"X-API-Key: secret"
# The formula's parts, but for the queue and the sinks, which have nothing here.
MOST = 80 * MEBI + CONNECTIONS * 12 * 2**10 + max(QUEUE_BYTES, 12 * LARGEST) + 8 * MEBI

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
