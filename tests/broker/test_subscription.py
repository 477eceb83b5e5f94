"""Subscriptions of one connection, over a stream in memory."""

from __future__ import annotations

import msgspec
import pytest
import trio

from hermes.broker.wire import hermesmq_pb2 as pb
from tests.broker.client import CAPS, Client, open_served


async def nothing_pushed(client: Client, seconds: float) -> bool:
    with trio.move_on_after(seconds) as scope:
        await client.pushed()
    return scope.cancelled_caught


async def test_waiting_messages_come_one_a_frame_and_later_ones_too(autojump_clock: object) -> None:
    async with open_served() as served:
        producing, client = served.connect(), served.connect()
        for payload in (b"0", b"1", b"2"):
            await producing.produce("t", payload)
        await client.subscribe(prefetch=10)
        assert [(await client.pushed()).payload for _ in range(3)] == [b"0", b"1", b"2"]
        began = trio.current_time()
        await producing.produce("t", b"3")
        assert (await client.pushed()).payload == b"3"
        assert trio.current_time() - began < 0.05


async def test_it_begins_after_the_answers_to_earlier_requests(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        produce = pb.Request(produce=pb.Produce(topic="t", payload=b"x"))
        await client.send(produce, produce, pb.Request(subscribe=pb.Subscribe(topic="t", group="g", prefetch=5)))
        assert [client.found(await client.read()).offset for _ in range(2)] == [0, 1]
        assert [(await client.pushed()).offset for _ in range(2)] == [0, 1]


async def test_the_prefetch_bounds_what_is_out_and_a_second_ack_frees_no_second_place(autojump_clock: object) -> None:
    async with open_served() as served:
        producing, client = served.connect(), served.connect()
        for _ in range(4):
            await producing.produce("t", b"x")
        await client.subscribe()
        first = await client.pushed()
        assert await nothing_pushed(client, 1)
        await client.send_ack(first.lease_id)
        await client.send_ack(first.lease_id)
        second = await client.pushed()
        assert second.offset == 1
        assert await nothing_pushed(client, 1)
        await client.send_ack(second.lease_id)
        assert (await client.pushed()).offset == 2


async def test_a_silent_handler_keeps_its_message_for_three_visibilities(autojump_clock: object) -> None:
    async with open_served() as served:
        producing, client = served.connect(), served.connect()
        await producing.produce("t", b"x")
        await client.subscribe(prefetch=4, visibility_timeout_ms=300)
        first = await client.pushed()
        began = trio.current_time()
        again = await client.pushed()
        assert 0.9 <= trio.current_time() - began < 1.6
        assert (again.offset, again.lease_id != first.lease_id) == (0, True)
        # The count begins anew.
        began = trio.current_time()
        assert (await client.pushed()).offset == 0
        assert 0.9 <= trio.current_time() - began < 1.6


@pytest.mark.parametrize("seconds", [0.2, 0.5, 0.8])
async def test_an_ack_of_the_first_lease_completes_the_message(seconds: float, autojump_clock: object) -> None:
    async with open_served() as served:
        producing, client = served.connect(), served.connect()
        await producing.produce("t", b"x")
        await client.subscribe(prefetch=4, visibility_timeout_ms=300)
        first = await client.pushed()
        await trio.sleep(seconds)
        await client.send_ack(first.lease_id)
        assert await nothing_pushed(client, 60)
        assert (served.machine.retained, served.machine.in_flight) == (0, 0)


async def test_one_that_gives_back_gets_the_message_again(autojump_clock: object) -> None:
    async with open_served() as served:
        producing, client = served.connect(), served.connect()
        await producing.produce("t", b"x")
        await client.subscribe()
        first = await client.pushed()
        began = trio.current_time()
        await client.send(pb.Request(nack=pb.Nack(lease_id=first.lease_id)))
        assert (await client.pushed()).offset == 0
        assert trio.current_time() - began < 0.05


async def test_what_is_no_ack_is_passed_over(autojump_clock: object) -> None:
    async with open_served() as served:
        producing, client = served.connect(), served.connect()
        await client.subscribe()
        await trio.sleep(0.1)
        await client.send_bytes(b"\0\0\0\2\xff\xff\0\0\0\0")
        await client.send(pb.Request(produce=pb.Produce(topic="t")), pb.Request(stats=pb.Stats()))
        await producing.produce("t", b"x")
        assert (await client.pushed()).offset == 0


async def test_auto_mode_delivers_at_most_once_and_reads_no_ack(autojump_clock: object) -> None:
    async with open_served() as served:
        producing, client = served.connect(), served.connect()
        await client.subscribe(ack_mode="auto", prefetch=2)
        for _ in range(5):
            await producing.produce("t", b"x")
        assert [(await client.pushed()).offset for _ in range(5)] == [0, 1, 2, 3, 4]
        assert (served.machine.retained, served.machine.in_flight) == (0, 0)


@pytest.mark.parametrize("mode", ["", "auto"])
async def test_silence_is_broken_every_ten_seconds(mode: str, autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.subscribe(ack_mode=mode)
        for beat in (10, 20, 30):
            assert client.found(await client.read()) == pb.Polled()
            assert trio.current_time() == pytest.approx(beat, abs=0.5)


@pytest.mark.parametrize("end", ["closed", "half closed", "too large"])
async def test_its_end_gives_every_lease_back_at_once_and_counts_the_acks_before(
    end: str, autojump_clock: object
) -> None:
    async with open_served() as served:
        producing, client, other = served.connect(), served.connect(), served.connect()
        for _ in range(4):
            await producing.produce("t", b"x")
        await client.subscribe(prefetch=3)
        first = await client.pushed()
        await client.send_ack(first.lease_id)
        if end == "closed":
            await client.stream.aclose()
        elif end == "half closed":
            await client.stream.send_stream.aclose()  # type: ignore[attr-defined]
        else:
            await client.send_bytes(b"\xff\xff\xff\xff")
        await trio.sleep(0.5)
        assert served.machine.in_flight == 0
        assert await other.offsets() == [1, 2, 3]


async def test_an_idle_group_that_is_subscribed_stays(autojump_clock: object) -> None:
    async with open_served(caps=msgspec.structs.replace(CAPS, group_ttl_ms=60_000)) as served:
        producing, client = served.connect(), served.connect()
        await producing.produce("t", b"x")
        await client.subscribe()
        await client.send_ack((await client.pushed()).lease_id)
        with trio.move_on_after(150):
            while True:
                await client.read()
        await producing.poll(group="other")
        assert set(served.machine.topics["t"].groups) == {"g", "other"}


async def test_a_group_that_rests_too_long_starts_anew(autojump_clock: object) -> None:
    async with open_served(caps=msgspec.structs.replace(CAPS, group_ttl_ms=60_000)) as served:
        client = served.connect()
        for _ in range(2):
            await client.produce("t", b"x")
        assert await client.offsets(group="slow", max=1) == [0]
        (item,) = await client.poll(max=1)
        await client.ack(item.lease_id)
        await trio.sleep(61)
        assert await client.offsets(group="slow") == [0, 1]
        assert await client.offsets() == [0, 1]


async def test_a_subscription_of_a_limited_topic_waits_for_its_tokens(autojump_clock: object) -> None:
    async with open_served() as served:
        producing, client = served.connect(), served.connect()
        await producing.ask(set_rate_limit=pb.SetRateLimit(topic="t", rate_per_sec=20, burst=1))
        for _ in range(20):
            await producing.produce("t", b"x")
        await client.subscribe(prefetch=100)
        began = trio.current_time()
        for _ in range(20):
            await client.pushed()
        assert 0.9 <= trio.current_time() - began < 1.1
