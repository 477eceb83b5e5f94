"""The client against a scripted node over streams in memory, on the virtual clock."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from hermes.broker.wire.frames import FrameReader, encode_frame
from hermes.broker.wire.hermesmq_pb2 import (
    Delivered,
    Error,
    Ok,
    Polled,
    Produced,
    Request,
    Response,
    StatsResult,
)
from hermes.client import Client, Message, Node, RateLimited, Unauthorized, Unavailable, connect
from hermes.client.producing import MOST_QUEUED, MOST_UNANSWERED

Serve = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The node's end of one connection."""

    def __init__(self, stream: trio.abc.Stream, address: str) -> None:
        self.stream = stream
        self.address = address
        self.reader = FrameReader()
        self.requests: list[Request] = []

    async def request(self) -> Request | None:
        while not self.requests:
            data = await self.stream.receive_some()
            if not data:
                return None
            self.requests += map(Request.FromString, self.reader.feed(bytes(data)))
        return self.requests.pop(0)

    async def answer(self, **kind: Any) -> None:
        await self.stream.send_all(encode_frame(Response(**kind).SerializeToString()))


class Nodes:
    """Scripted nodes: ``serve`` runs for each connection that comes."""

    def __init__(self, nursery: trio.Nursery, serve: Serve) -> None:
        self.nursery = nursery
        self.serve = serve
        self.dialled: list[tuple[float, str]] = []

    async def dial(self, address: str) -> trio.abc.Stream:
        self.dialled.append((trio.current_time(), address))
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self._run, Peer(theirs, address))
        return ours

    async def _run(self, peer: Peer) -> None:
        try:
            await self.serve(peer)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            await peer.stream.aclose()


async def answer_stats(peer: Peer, request: Request) -> bool:
    if request.WhichOneof("kind") == "stats":
        await peer.answer(stats=StatsResult(current_term=1, is_leader=True))
        return True
    return False


async def test_a_redirect_leads_to_the_leader_and_later_calls_begin_there(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def serve(peer: Peer) -> None:
        while request := await peer.request():
            if await answer_stats(peer, request):
                continue
            if peer.address == "a:1":
                await peer.answer(error=Error(code="not_leader", leader_addr="b:2"))
            else:
                await peer.answer(ok=Ok())

    nodes = Nodes(nursery, serve)
    async with connect([Node("a:1", "a:2"), Node("b:1", "b:2", 2)], dial=nodes.dial) as client:
        await client.create_topic("t")
        await client.create_topic("t")
    assert [address for _, address in nodes.dialled] == ["a:1", "b:1"]
    assert trio.current_time() == pytest.approx(0.05, abs=1e-6)


async def test_a_call_is_tried_three_times_with_doubled_pauses(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def serve(peer: Peer) -> None:
        await peer.request()

    nodes = Nodes(nursery, serve)
    begin = trio.current_time()
    with pytest.raises(Unavailable, match="a:1: the node closed the connection"):
        async with connect(["a:1"], dial=nodes.dial):
            pass
    assert [when - begin for when, _ in nodes.dialled] == pytest.approx([0, 0.05, 0.15])


async def test_pipelined_produces_are_sent_again_in_order_after_a_cut_in_mid_frame(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    stored: dict[tuple[str, int], int] = {}
    cuts = 0

    async def serve(peer: Peer) -> None:
        nonlocal cuts
        answered = 0
        while request := await peer.request():
            if await answer_stats(peer, request):
                continue
            key = (request.produce.producer_id, request.produce.seq)
            offset = stored.setdefault(key, len(stored))
            if cuts == 0 and answered == 5:
                cuts += 1
                await peer.stream.send_all(b"\0\0")
                return
            answered += 1
            await peer.answer(produced=Produced(offset=offset))

    nodes = Nodes(nursery, serve)
    async with connect(["a:1"], dial=nodes.dial) as client:
        offsets = await client.produce_many("t", range(200), producer_id="p")
    assert offsets == list(range(200))
    assert cuts == 1


async def test_a_silent_node_fails_a_produce_after_its_time_and_retries(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def serve(peer: Peer) -> None:
        while request := await peer.request():
            await answer_stats(peer, request)

    nodes = Nodes(nursery, serve)
    async with connect(["a:1"], dial=nodes.dial) as client:
        begin = trio.current_time()
        with pytest.raises(Unavailable, match="no answer in time"):
            await client.produce("t", b"x")
        assert trio.current_time() - begin == pytest.approx(30.15)


async def test_errors_have_types_and_the_connection_is_used_on(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def serve(peer: Peer) -> None:
        while request := await peer.request():
            if not await answer_stats(peer, request):
                await peer.answer(error=Error(code="rate_limited", message="slow", retry_after_ms=1500))

    nodes = Nodes(nursery, serve)
    async with connect(["a:1"], dial=nodes.dial) as client:
        for _ in range(2):
            with pytest.raises(RateLimited) as caught:
                await client.poll("t", "g")
            assert caught.value.retry_after == 1.5
    assert len(nodes.dialled) == 1


async def test_a_wrong_token_is_told_as_such(nursery: trio.Nursery, autojump_clock: trio.testing.MockClock) -> None:
    async def serve(peer: Peer) -> None:
        request = await peer.request()
        assert request is not None
        assert request.auth.token == "wrong"
        await peer.answer(error=Error(code="unauthorized", message="no"))

    with pytest.raises(Unauthorized, match="client token"):
        async with connect(["a:1"], token="wrong", dial=Nodes(nursery, serve).dial):
            pass


async def test_a_subscription_acks_nacks_reconnects_and_sends_the_last_ack_before_its_end(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    answers: list[tuple[str, int]] = []
    subscribed = 0

    async def serve(peer: Peer) -> None:
        nonlocal subscribed
        while request := await peer.request():
            kind = request.WhichOneof("kind")
            if await answer_stats(peer, request):
                continue
            if kind == "subscribe":
                subscribed += 1
                first = 10 * (subscribed - 1)
                for lease in (first, first + 1):
                    await peer.answer(polled=Polled(items=[Delivered(lease_id=lease, offset=lease)]))
            elif kind in {"ack", "nack"}:
                answers.append((kind, getattr(request, kind).lease_id))
                if len(answers) == 2:
                    return

    async def handler(message: Message) -> None:
        if message.offset == 1:
            raise ValueError("bad")
        await trio.sleep(1 if message.offset == 11 else 0)

    nodes = Nodes(nursery, serve)
    async with (
        connect(["a:1"], dial=nodes.dial) as client,
        client.subscribe("t", "g", handler, prefetch=2) as subscription,
    ):
        await trio.sleep(0.5)
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(answers) == [("ack", 0), ("ack", 10), ("ack", 11), ("nack", 1)]
    assert (subscription.handler_failures, subscription.reconnects) == (1, 1)


def test_the_client_imports_no_server() -> None:
    code = "import sys, hermes.client, hermes.client.sync; print('\\n'.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"hermes.events.engine", "quart", "hypercorn", "httptools", "hermes.broker.machine"} & set(loaded)


async def test_every_produce_ends_with_the_client_wherever_it_waits(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    async def serve(peer: Peer) -> None:
        while request := await peer.request():
            await answer_stats(peer, request)

    count = MOST_QUEUED + MOST_UNANSWERED + 10
    failed = 0

    async def produce(client: Client) -> None:
        nonlocal failed
        with pytest.raises(Unavailable):
            await client.produce("t", b"x")
        failed += 1

    async with trio.open_nursery() as callers, connect(["a:1"], dial=Nodes(nursery, serve).dial) as client:
        for _ in range(count):
            callers.start_soon(produce, client)
        # Some are unanswered, the queue is full, and some wait for a place in it.
        await trio.sleep(1)
    assert failed == count


async def test_the_end_closes_every_idle_connection(
    nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    ended = 0

    async def serve(peer: Peer) -> None:
        nonlocal ended
        while request := await peer.request():
            await trio.sleep(1)
            if not await answer_stats(peer, request):
                await peer.answer(ok=Ok())
        ended += 1

    async with connect(["a:1"], dial=Nodes(nursery, serve).dial) as client, trio.open_nursery() as callers:
        for _ in range(4):
            callers.start_soon(client.create_topic, "t")
    await trio.sleep(1)
    assert ended == 4
