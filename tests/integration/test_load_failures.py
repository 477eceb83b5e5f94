"""Runs of the load generator against servers that fail: nothing hangs, everything is counted by its kind."""

from __future__ import annotations

import socket

import pytest
import trio

from hermes.load.client import run_load
from hermes.load.options import LoadError, Options
from tests.load.server import ACCEPTED, Answer, Request, open_server, reset


def every_fifth(fail: Answer) -> Answer:
    async def answer(stream: trio.SocketStream, request: Request) -> None:
        if request.number % 5 == 4:
            await fail(stream, request)
        else:
            await stream.send_all(ACCEPTED)

    return answer


async def close_at_once(stream: trio.SocketStream, request: Request) -> None:
    await stream.aclose()


async def close_within_the_head(stream: trio.SocketStream, request: Request) -> None:
    await stream.send_all(ACCEPTED[:20])
    await stream.aclose()


async def close_within_the_body(stream: trio.SocketStream, request: Request) -> None:
    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nnot fifty")
    await stream.aclose()


async def speak_something_else(stream: trio.SocketStream, request: Request) -> None:
    await stream.send_all(b"220 mail.example ESMTP\r\n")


async def answer_twice(stream: trio.SocketStream, request: Request) -> None:
    await stream.send_all(ACCEPTED * 2)


async def reset_it(stream: trio.SocketStream, request: Request) -> None:
    await reset(stream)


async def never_answer(stream: trio.SocketStream, request: Request) -> None:
    await trio.sleep_forever()


@pytest.mark.parametrize(
    ("fail", "kind"),
    [
        (close_at_once, "closed"),
        (close_within_the_head, "truncated"),
        (close_within_the_body, "truncated"),
        (speak_something_else, "malformed"),
        (answer_twice, "malformed"),
        (reset_it, "reset"),
        (never_answer, "timeout"),
    ],
)
async def test_a_lost_request_is_counted_by_kind_and_its_connection_made_anew(fail: Answer, kind: str) -> None:
    async with open_server(every_fifth(fail)) as server:
        with trio.fail_after(20):
            summary = await run_load(Options(url=server.url, total=25, connections=2, timeout=0.2))
    assert summary.codes == {"202": 20}
    assert summary.errors == {kind: 5}
    assert summary.lost == 5
    assert server.connections >= 2 + 1 + 3


async def test_losses_with_answers_between_them_do_not_add_up_to_long_pauses() -> None:
    async with open_server(every_fifth(close_at_once)) as server:
        summary = await run_load(Options(url=server.url, total=100, connections=1))
    assert summary.lost == 20
    assert summary.elapsed < 2, "20 times 10 ms, not ever twice as long"


async def test_nobody_listening_is_one_clear_line() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(LoadError, match=rf"^cannot connect to http://127.0.0.1:{port} \(refused\)"):
            await run_load(Options(url=f"http://127.0.0.1:{port}/events"))


async def test_a_host_that_does_not_exist_is_one_clear_line() -> None:
    with pytest.raises(LoadError, match=r"^cannot find the host of http://no-such-host\.invalid:1"):
        await run_load(Options(url="http://no-such-host.invalid:1/events"))


async def test_more_connections_than_open_files_are_declined_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda which: (256, 256))
    with pytest.raises(LoadError, match="`ulimit -n 532`"):
        await run_load(Options(connections=500))


async def test_a_server_that_dies_and_comes_back_is_loaded_again() -> None:
    async def come_and_go() -> None:
        await trio.sleep(0.4)
        first.die()
        await trio.sleep(0.5)
        async with open_server(port=first.port) as second:
            servers.append(second)
            await ended.wait()

    ended = trio.Event()
    async with open_server() as first, trio.open_nursery() as nursery:
        servers = [first]
        nursery.start_soon(come_and_go)
        summary = await run_load(Options(url=first.url, duration=2.0, connections=4))
        ended.set()
    answered_by = [len(server.requests) for server in servers]
    assert min(answered_by) > 100
    assert summary.errors.pop("refused") >= 4
    assert sum(summary.errors.values()) == summary.lost, "what was in flight when it died"
    assert 1 <= summary.lost <= 4
    assert summary.requests <= sum(answered_by) <= summary.requests + summary.lost


async def test_a_server_that_dies_for_good_is_asked_ever_more_rarely_until_the_end() -> None:
    async def die_soon() -> None:
        await trio.sleep(0.1)
        server.die()

    async with open_server() as server, trio.open_nursery() as nursery:
        nursery.start_soon(die_soon)
        with trio.fail_after(10):
            summary = await run_load(Options(url=server.url, duration=1.5, connections=1))
    assert summary.requests > 0
    assert 4 <= summary.errors["refused"] <= 8, "10 ms after the first, then twice as long each time"


async def test_an_early_answer_to_a_large_request_ends_its_connection() -> None:
    """A 413 may come before the body is out; the rest of it would garble the next request."""
    connections = 0

    async def too_large(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        await stream.receive_some(1000)
        await stream.send_all(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n")
        async for _ in stream:
            pass

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, too_large, listeners)
        port = listeners[0].socket.getsockname()[1]
        options = Options(url=f"http://127.0.0.1:{port}/", total=4, connections=1, payload_bytes=20_000_000)
        with trio.fail_after(20):
            summary = await run_load(options)
        nursery.cancel_scope.cancel()
    assert summary.requests + summary.lost == 4
    assert summary.codes.get("413", 0) >= 1
    assert connections == 4 + 1


async def test_a_server_that_ends_idle_connections_loses_no_request() -> None:
    async def answer_then_tire(stream: trio.SocketStream, request: Request) -> None:
        await stream.send_all(ACCEPTED)
        await trio.sleep(0.02)
        await stream.send_all(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await stream.aclose()

    async with open_server(answer_then_tire) as server:
        summary = await run_load(Options(url=server.url, rate=10, total=8, connections=1))
    assert (summary.codes, summary.errors, summary.lost) == ({"202": 8}, {}, 0)
    assert server.connections >= 8
