"""The broker: produces one by one and pipelined, pushes with acks, the time to a push, and polls of a long topic.

Every figure stands beside an fsync of 4 KiB on the same disk and the round trip of a request that commits nothing, for
a produce is made of these two. The client is one plain process, and shares the cores with the broker.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

import trio

from hermes.broker.machine import commands as c
from hermes.broker.machine.machine import Delivery, Machine
from hermes.client import connect
from tests.integration.broker.daemon import run_daemon
from tests.integration.broker.peer import Peer, messages, request
from tests.perf.log_appends import write_and_sync
from tests.perf.rows import Row

_PAYLOAD = os.urandom(256)
_PIPELINED = 32
_PREFETCH = 64
_LENGTH = struct.Struct(">I")


class _Reader:
    """Frames of a socket, of which mostly the number counts."""

    def __init__(self, peer: Peer) -> None:
        self._socket = peer.socket
        self._rest = b""

    def some(self) -> list[bytes]:
        """The responses that are there, at least one."""
        found: list[bytes] = []
        while not found:
            data = self._rest + self._socket.recv(1 << 18)
            at = 0
            while len(data) - at >= 4 and len(data) - at - 4 >= (size := _LENGTH.unpack_from(data, at)[0]):
                found.append(data[at + 4 : at + 4 + size])
                at += 4 + size
            self._rest = data[at:]
        return found


@contextmanager
def _broker(folder: Path) -> Iterator[Peer]:
    with run_daemon(folder, silent=True) as daemon, Peer(daemon.port) as peer:
        peer.bootstrap()
        yield peer


def throughput(folder: Path, *, rounds: int, seconds: int) -> list[Row]:
    """Produces, pushes and acks a second, of one connection."""
    serial, pipelined, pushed, many, trips, syncs = [], [], [], [], [], []
    for number in range(rounds):
        with _broker(folder / f"throughput-{number}") as peer:
            trips.append(median(_times(partial(peer.ask, "stats"), 1)))
            syncs.append(median(write_and_sync(folder, bytes(4096), 1000)))
            serial.append(_serial(peer, seconds))
            pipelined.append(_pipelined(peer, seconds))
            pushed.append(_push_and_ack(peer, seconds))
            many.append(trio.run(_produce_many, peer, seconds))
    floor = 1 / (median(trips) + median(syncs))
    beside = f"fsync of 4 KiB {median(syncs) * 1000:.2f} ms, round trip {median(trips) * 1000:.2f} ms"
    detail = {"fsync_ms": [each * 1000 for each in syncs], "round_trip_ms": [each * 1000 for each in trips]}

    def row(what: str, found: list[float], least: float, words: str = "") -> Row:
        rate = median(found)
        return Row(
            f"broker: {what}", f"{rate:,.0f}/s{words}", f"≥ {least:,.0f}/s", rate / least, detail | {what: found}
        )

    return [
        row("serial produce", serial, 2_000, f" ({median(serial) / floor:.2f} of the floor; {beside})"),
        row("produce pipelined × 32", pipelined, 25_000),
        row("push and ack, prefetch 64", pushed, 22_000),
        row("produce_many of the client", many, 4 * median(serial), f" ({median(many) / median(serial):.1f} × serial)"),
    ]


def latency(folder: Path, *, seconds: int) -> list[Row]:
    """Milliseconds from a produce to its push, at 500 a second."""
    with _broker(folder / "latency") as peer, Peer(peer.socket.getpeername()[1]) as subscriber:
        subscriber.subscribe("t", prefetch=1024, ack_mode="auto")
        found = _way(peer, subscriber, seconds)
    cuts = sorted(found)
    p50, p99 = cuts[len(cuts) // 2] * 1000, cuts[len(cuts) * 99 // 100] * 1000
    score = min(1.7 / p50, 2.7 / p99)
    what = "broker: from a produce to its push at 500/s, p50 / p99"
    return [Row(what, f"{p50:.2f} / {p99:.2f} ms", "< 1.7 / 2.7 ms", score, {"p50_ms": p50, "p99_ms": p99})]


def machine(_folder: Path, *, rounds: int) -> list[Row]:
    """The state machine alone, and what a long topic costs."""
    rates = [_machine_rate() for _ in range(rounds)]
    short, long = _Retained(1_000), _Retained(1_000_000)
    ratios = []
    for _ in range(5 * rounds):
        # In turns, for a busy neighbour slows both.
        few, many = short.poll_and_ack(), long.poll_and_ack()
        ratios.append(many / few)
    rate, ratio = median(rates), median(ratios)
    return [
        Row(
            "broker: state machine alone, produce and poll and ack",
            f"{rate:,.0f}/s",
            "≥ 250,000/s",
            rate / 250_000,
            {"per_second": rates},
        ),
        Row(
            "broker: poll of 256 and acks at a million retained, against a thousand",
            f"{ratio:.2f} ×",
            "≤ 1.1 ×",
            1.1 / ratio,
            {"ratios": ratios},
        ),
    ]


def _times(function: Callable[[], object], seconds: float) -> list[float]:
    found = []
    end = time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        function()
        found.append(time.perf_counter() - began)
    return found


def _serial(peer: Peer, seconds: float) -> float:
    frame = request("produce", topic="t", payload=_PAYLOAD)
    reader = _Reader(peer)

    def once() -> None:
        peer.send(frame)
        reader.some()

    return 1 / median(_times(once, seconds))


def _pipelined(peer: Peer, seconds: float) -> float:
    """Produces a second with always 32 unanswered."""
    frame = request("produce", topic="t", payload=_PAYLOAD)
    reader = _Reader(peer)
    began = time.perf_counter()
    end = began + seconds
    peer.send(frame * _PIPELINED)
    unanswered, answered = _PIPELINED, 0
    while unanswered:
        count = len(reader.some())
        answered += count
        unanswered -= count
        if time.perf_counter() < end:
            peer.send(frame * count)
            unanswered += count
    return answered / (time.perf_counter() - began)


def _push_and_ack(peer: Peer, seconds: float) -> float:
    """Messages a second that are pushed and acknowledged; more are there than the seconds allow."""
    frame = request("produce", topic="p", payload=_PAYLOAD)
    reader = _Reader(peer)
    for _ in range(30_000 * int(seconds) // 500):
        peer.send(frame * 500)
        left = 500
        while left:
            left -= len(reader.some())
    with Peer(peer.socket.getpeername()[1]) as subscriber:
        subscriber.subscribe("p", prefetch=_PREFETCH)
        reader, response, count = _Reader(subscriber), messages().Response, 0
        began = time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            leases = [response.FromString(data).polled.items[0].lease_id for data in reader.some()]
            subscriber.send(*(request("ack", lease_id=lease) for lease in leases))
            count += len(leases)
        return count / elapsed


async def _produce_many(peer: Peer, seconds: float) -> float:
    async with connect([f"127.0.0.1:{peer.socket.getpeername()[1]}"]) as client:
        count, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            count += len(await client.produce_many("m", [_PAYLOAD] * 1000))
        return count / elapsed


def _way(producer: Peer, subscriber: Peer, seconds: float) -> list[float]:
    """Seconds from the send of each produce to the arrival of its push."""
    found: list[float] = []
    total = int(500 * seconds)

    def receive() -> None:
        reader, response = _Reader(subscriber), messages().Response
        while len(found) < total:
            for data in reader.some():
                now = time.perf_counter()
                items = response.FromString(data).polled.items
                found.extend(now - struct.unpack("d", item.payload[:8])[0] for item in items)

    receiving = threading.Thread(target=receive)
    receiving.start()
    reader = _Reader(producer)
    began = time.perf_counter()
    for number in range(total):
        time.sleep(max(0.0, began + number / 500 - time.perf_counter()))
        producer.send(request("produce", topic="t", payload=struct.pack("d", time.perf_counter()) + _PAYLOAD))
        reader.some()
    receiving.join(30)
    return found


def _machine_rate() -> float:
    machine, batch, cycles = Machine(), 256, 100
    entries: list[c.Entry] = []
    for number in range(cycles):
        leases = tuple(range(number * batch, (number + 1) * batch))
        produces = [c.Produce("t", _PAYLOAD) for _ in range(batch)]
        entries.append(c.Entry(number, (*produces, c.Poll("t", "g", batch), c.Ack("t", "g", leases))))
    began = time.perf_counter()
    for index, entry in enumerate(entries):
        machine.apply(index, entry)
    return batch * cycles / (time.perf_counter() - began)


class _Retained:
    """A topic that keeps so many messages: another group has done none."""

    def __init__(self, count: int) -> None:
        self._machine = Machine()
        self._index = 0
        self._apply(c.SetRetention("t", 10**9, 0), c.CreateTopic("t"))
        self._apply(c.Register("t", "slow"), c.Register("t", "g"))
        for _ in range(count // 500):
            self._apply(*(c.Produce("t", b"x") for _ in range(500)))

    def _apply(self, *commands: c.AnyCommand) -> list[object]:
        self._index += 1
        return list(self._machine.apply(self._index, c.Entry(self._index, commands)))

    def poll_and_ack(self) -> float:
        """Seconds of a poll of 256 messages and its acks; as many are produced before, so that none lacks."""
        self._apply(*(c.Produce("t", b"x") for _ in range(256)))
        began = time.perf_counter()
        (deliveries,) = self._apply(c.Poll("t", "g", 256))
        assert isinstance(deliveries, list)
        leases = tuple(each.lease_id for each in deliveries if isinstance(each, Delivery))
        self._apply(c.Ack("t", "g", leases))
        elapsed = time.perf_counter() - began
        assert len(leases) == 256
        return elapsed
