"""The stream server over streams in memory: what a task a connection does that the reactor does in one."""

from __future__ import annotations

import trio
import trio.testing

from hermes.net.http.head import Head, Heads, Route
from hermes.net.http.lane import BodyBudget, Lane, Timeouts
from hermes.net.http.pending import Pending
from hermes.net.http.response import Response
from hermes.net.http.stream import StreamOptions, StreamServer
from tests.net.http.kit import post, read_answers

_TIMEOUTS = Timeouts(header=5, body=5, idle=5, write=5)


class _Counting(trio.abc.HalfCloseableStream):
    """A stream that counts how often it is read."""

    def __init__(self, stream: trio.abc.HalfCloseableStream) -> None:
        self._stream = stream
        self.reads = 0

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        self.reads += 1
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()


class _One(trio.abc.Listener[_Counting]):
    """Accepts one stream."""

    def __init__(self, stream: _Counting) -> None:
        self._stream = [stream]

    async def accept(self) -> _Counting:
        if not self._stream:
            await trio.sleep_forever()
        return self._stream.pop()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def _refuse(*_: object) -> None:
    raise AssertionError("nothing here is for the control lane")


async def test_a_client_that_ends_while_it_is_owed_an_answer_is_not_asked_again_and_gets_it() -> None:
    commit = Pending()  # which nobody can call off

    def handle(_head: Head, _body: bytes) -> Pending:
        return commit

    route = Route("/events", lambda _head: None, handle, lambda _head: b"", 1000)
    lane = Lane(Heads({("POST", "/events"): route}), BodyBudget(1000))
    client, stream = trio.testing.memory_stream_pair()
    server = _Counting(stream)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(StreamServer(lane, [_One(server)], _refuse, StreamOptions(_TIMEOUTS, 10)).serve)
        await client.send_all(post(b"{}"))
        await client.send_eof()
        for _ in range(200):
            await trio.lowlevel.checkpoint()
        assert server.reads <= 3
        commit.answer(Response(202, b"{}"))
        data = b""
        while part := await client.receive_some():
            data += part
        nursery.cancel_scope.cancel()
    assert [answer.status for answer in read_answers(data)] == [202]


async def test_a_client_in_the_middle_of_its_answer_does_not_give_way(autojump_clock: object) -> None:
    route = Route("/events", lambda _head: None, lambda _head, _body: Response(202, b"{}"), lambda _head: b"", 1000)
    lane = Lane(Heads({("POST", "/events"): route}), BodyBudget(1000))
    client, stream = trio.testing.lockstep_stream_pair()
    server = StreamServer(lane, [_One(_Counting(stream))], _refuse, StreamOptions(_TIMEOUTS, 10))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve)
        await client.send_all(post(b"{}"))
        first = bytes(await client.receive_some(10))
        await trio.sleep(2)
        server._make_room()
        assert not server.evicted
        data = first
        while not data.endswith(b"{}"):
            data += await client.receive_some(1000)
        assert [answer.status for answer in read_answers(data)] == [202]
        await trio.sleep(2)
        server._make_room()
        assert server.evicted == 1
        nursery.cancel_scope.cancel()
