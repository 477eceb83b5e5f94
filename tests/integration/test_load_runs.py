"""Runs of the load generator against a real server on the loopback that behaves well."""

from __future__ import annotations

import gzip

import msgspec
import pytest
import trio

from hermes.events.event import Event
from hermes.load.client import run_load
from hermes.load.options import Options
from hermes.load.reactor import Progress
from tests.load.server import ACCEPTED, Request, open_server


def event_ids(requests: list[Request]) -> list[str]:
    bodies = (gzip.decompress(r.body) if b"content-encoding: gzip" in r.head else r.body for r in requests)
    return [msgspec.json.decode(line, type=Event).id for body in bodies for line in body.splitlines()]


@pytest.mark.parametrize(
    ("options", "events"),
    [({}, 1), ({"events": 20}, 20), ({"events": 3, "gzip": True}, 3), ({"payload_bytes": 500_000}, 1)],
)
async def test_a_total_is_sent_exactly_with_every_id_once(options: dict[str, object], events: int) -> None:
    async with open_server() as server:
        summary = await run_load(Options(url=server.url, total=150, connections=7, **options))  # type: ignore[arg-type]
    assert (summary.requests, summary.codes) == (150, {"202": 150})
    assert summary.events == 150 * events
    assert (summary.errors, summary.lost, summary.interrupted) == ({}, 0, False)
    assert len(server.requests) == 150
    assert len(set(event_ids(server.requests))) == 150 * events
    assert server.connections == 7 + 1, "one for the look whether anybody is there"
    assert summary.bytes_sent == sum(len(r.head) + 4 + len(r.body) for r in server.requests)
    assert summary.bytes_received == 150 * len(ACCEPTED)


async def test_a_total_smaller_than_the_connections_is_kept() -> None:
    async with open_server() as server:
        summary = await run_load(Options(url=server.url, total=3, connections=50))
    assert summary.requests == len(server.requests) == 3


async def test_a_duration_ends_the_sending_and_every_answer_is_still_taken() -> None:
    async with open_server() as server:
        summary = await run_load(Options(url=server.url, duration=0.3, connections=4))
    assert 0.3 <= summary.elapsed < 2
    assert summary.requests == len(server.requests) > 50
    assert summary.requests_per_second == pytest.approx(summary.requests / summary.elapsed)
    assert 0 < summary.latency.p50 <= summary.latency.p99 <= summary.latency.max


async def test_the_warm_up_is_sent_and_not_counted() -> None:
    async with open_server() as server:
        summary = await run_load(Options(url=server.url, warmup=0.2, total=40, connections=4))
    assert summary.requests == 40
    assert len(server.requests) > 40
    assert server.connections == 4 + 1, "the connections are the same"


async def test_the_options_reach_the_request() -> None:
    options = Options(total=1, connections=1, headers=(("X-API-Key", "s3"),), types=("custom",), unique_ids=False)
    async with open_server() as server:
        await run_load(msgspec.structs.replace(options, url=server.url + "?a=1"))
    (request,) = server.requests
    assert request.head.startswith(b"post /events?a=1 http/1.1\r\n")
    assert b"\r\nx-api-key: s3" in request.head
    assert f"\r\nhost: 127.0.0.1:{server.port}".encode() in request.head
    assert msgspec.json.decode(request.body, type=Event).type == "custom"


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 202 Accepted\r\ncontent-length: 14\r\n\r\n{"accepted":1}',
        b"HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + ACCEPTED,
    ],
    ids=["sized", "chunked", "interim"],
)
@pytest.mark.parametrize("cut", [None, 1, 30, 48])
async def test_answers_of_any_framing_are_taken_whole_or_in_parts(answer: bytes, cut: int | None) -> None:
    async def send_in_parts(stream: trio.SocketStream, request: Request) -> None:
        if cut is not None:
            await stream.send_all(answer[:cut])
            await trio.sleep(0.002)
        await stream.send_all(answer[cut or 0 :])

    async with open_server(send_in_parts) as server:
        summary = await run_load(Options(url=server.url, total=20, connections=2))
    assert (summary.codes, summary.errors) == ({"202": 20}, {})
    assert summary.bytes_received == 20 * len(answer)
    assert server.connections == 2 + 1


async def test_codes_are_told_apart_and_only_events_of_2xx_count() -> None:
    async def refuse_every_third(stream: trio.SocketStream, request: Request) -> None:
        busy = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 4\r\n\r\nbusy"
        await stream.send_all(busy if request.number % 3 == 0 else ACCEPTED)

    async with open_server(refuse_every_third) as server:
        summary = await run_load(Options(url=server.url, total=60, connections=1, events=2))
    assert summary.codes == {"202": 40, "503": 20}
    assert summary.events == 80


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 202 Accepted\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 202 Accepted\r\n\r\nuntil the end",
    ],
    ids=["connection: close", "no length"],
)
async def test_a_server_that_closes_after_each_answer_gets_a_new_connection_for_each(answer: bytes) -> None:
    async def answer_and_close(stream: trio.SocketStream, request: Request) -> None:
        await stream.send_all(answer)
        await stream.aclose()

    async with open_server(answer_and_close) as server:
        summary = await run_load(Options(url=server.url, total=30, connections=3))
    assert (summary.codes, summary.errors, summary.lost) == ({"202": 30}, {}, 0)
    assert server.connections >= 30


async def test_a_rate_is_kept() -> None:
    async with open_server() as server:
        summary = await run_load(Options(url=server.url, rate=400, duration=0.5, connections=8))
    assert summary.requests == len(server.requests) == 200
    assert summary.unsent == 0
    assert 0.5 <= summary.elapsed < 2


async def test_a_total_at_a_rate_lasts_as_long_as_its_schedule() -> None:
    async with open_server() as server:
        summary = await run_load(Options(url=server.url, rate=100, total=30))
    assert summary.requests == 30
    assert 0.3 <= summary.elapsed < 2


async def test_at_a_rate_a_stall_shows_in_the_requests_that_were_due_meanwhile() -> None:
    async def stall_once(stream: trio.SocketStream, request: Request) -> None:
        if request.number == 10:
            await trio.sleep(0.4)
        await stream.send_all(ACCEPTED)

    async with open_server(stall_once) as server:
        options = Options(url=server.url, rate=100, total=50, connections=1)
        open_loop = await run_load(options)
    async with open_server(stall_once) as server:
        closed_loop = await run_load(msgspec.structs.replace(options, url=server.url, rate=None))
    assert open_loop.latency.p50 > 0.05, "forty requests were due in the stall, the first of them 0.4 s late"
    assert closed_loop.latency.p50 < 0.05, "a closed loop does not ask during the stall"
    assert closed_loop.latency.max >= 0.4


async def test_a_rate_that_the_server_cannot_take_leaves_requests_unsent_and_says_how_many() -> None:
    async def slowly(stream: trio.SocketStream, request: Request) -> None:
        await trio.sleep(0.05)
        await stream.send_all(ACCEPTED)

    async with open_server(slowly) as server:
        summary = await run_load(Options(url=server.url, rate=1000, duration=0.3, connections=2))
    assert summary.requests + summary.unsent == 300
    assert summary.requests == len(server.requests)
    assert 0 < summary.requests < 30
    assert summary.latency.max > 0.2, "counted from when it was due"


async def test_progress_is_reported_through_the_phases() -> None:
    seen: list[Progress] = []
    async with open_server() as server:
        options = Options(url=server.url, warmup=0.2, duration=0.4, connections=3)
        summary = await run_load(options, seen.append, progress_interval=0.05)
    assert [phase for phase in dict.fromkeys(moment.phase for moment in seen) if phase != "drain"] == [
        "warm-up",
        "load",
    ]
    loads = [moment for moment in seen if moment.phase == "load"]
    assert all(0 <= moment.in_flight <= 3 for moment in loads)
    assert [moment.left for moment in loads] == sorted((moment.left for moment in loads), reverse=True)
    assert 0 < loads[-1].summary.requests <= summary.requests


async def test_a_run_that_is_cancelled_leaves_no_socket_open() -> None:
    async with open_server() as server:
        with trio.move_on_after(0.2) as scope:
            await run_load(Options(url=server.url, duration=60, connections=4))
        assert scope.cancelled_caught
        with trio.fail_after(5):
            if server.open_connections:
                await server.deserted.wait()
