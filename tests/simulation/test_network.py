"""The simulated network is a network: Trio's own rules for streams hold, and what it does to bytes real networks do."""

from __future__ import annotations

from contextlib import suppress
from random import Random

import pytest
import trio
import trio.testing

from tests.simulation.network import Network, SimulatedListener, SimulatedStream, Weather
from tests.simulation.trace import Trace

Pair = tuple[SimulatedStream, SimulatedStream]


def make_network(seed: int = 0) -> tuple[Network, SimulatedListener]:
    network = Network(Random(seed), Trace(1000))
    return network, network.listen(1)


async def make_pair(weather: Weather | None = None, seed: int = 0) -> Pair:
    network, listener = make_network(seed)
    client = await network.connect(weather or Weather())
    return client, await listener.accept()


async def test_its_streams_keep_the_rules_of_trios_streams() -> None:
    async def clogged() -> Pair:
        client, server = await make_pair(Weather(latency=0.0, window=10))
        await client.send_all(b"0123456789")
        await server.send_all(b"0123456789")
        return client, server

    async def plain() -> Pair:
        return await make_pair(Weather(latency=0.0))

    await trio.testing.check_half_closeable_stream(plain, clogged)


async def test_bytes_come_in_order_and_whole_however_they_are_cut_up(autojump_clock: None) -> None:
    sent = bytes(range(256)) * 20
    pieces = set()
    for seed in range(30):
        client, server = await make_pair(Weather(latency=0.01, jitter=0.5, pieces=8, window=1000), seed)
        got, count = b"", 0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_and_end, client, sent)
            while part := await server.receive_some():
                got += part
                count += 1
        assert got == sent
        pieces.add(count)
    assert len(pieces) > 3


async def test_a_cut_loses_the_end_and_nothing_else_and_both_sides_learn_of_it(autojump_clock: None) -> None:
    sent = b"0123456789" * 10
    for cut in range(1, 100, 7):
        client, server = await make_pair(Weather(latency=0.0, pieces=3, cut_after=cut), cut)
        with suppress(trio.BrokenResourceError):
            await client.send_all(sent)
        got = await _read_until_reset(server)
        assert got == sent[: len(got)]
        assert len(got) <= cut
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()


async def test_a_client_that_vanishes_is_silence(autojump_clock: None) -> None:
    client, server = await make_pair()
    client.vanish()
    with trio.move_on_after(3600) as scope:
        await server.receive_some()
    assert scope.cancelled_caught


async def test_a_sender_waits_for_a_reader_that_is_slow(autojump_clock: None) -> None:
    client, server = await make_pair(Weather(window=100))
    with trio.move_on_after(60) as scope:
        for _ in range(3):
            await client.send_all(b"x" * 60)
    assert scope.cancelled_caught
    assert len(await server.receive_some()) == 60


async def test_a_crash_resets_connections_and_refuses_new_ones_until_somebody_listens_again(
    autojump_clock: None,
) -> None:
    network, listener = make_network()
    waiting = await network.connect(Weather())
    accepted = await network.connect(Weather())
    server = await listener.accept()
    network.crash(listener)
    for client in (waiting, accepted):
        with pytest.raises(trio.BrokenResourceError):
            await client.receive_some()
    with pytest.raises(trio.ClosedResourceError):
        await server.send_all(b"from the grave")
    with pytest.raises(ConnectionRefusedError):
        await network.connect(Weather())
    network.listen(2)
    assert (await network.connect(Weather())).life == 2


async def _read_until_reset(stream: SimulatedStream) -> bytes:
    got = b""
    try:
        while part := await stream.receive_some():
            got += part
    except trio.BrokenResourceError:
        return got
    raise AssertionError("it ended in order")


async def _send_and_end(stream: SimulatedStream, data: bytes) -> None:
    for start in range(0, len(data), 500):
        await stream.send_all(data[start : start + 500])
    await stream.send_eof()
