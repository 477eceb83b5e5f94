"""Requests and answers of one connection, over a stream in memory."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest
import trio

from hermes.base.errors import LogUnavailable
from hermes.broker import node
from hermes.broker.node import MAX_PAYLOAD_BYTES
from hermes.broker.tcp.slots import MAX_UNANSWERED
from hermes.broker.wire import hermesmq_pb2 as pb
from hermes.store.log.memory import open_memory_log
from tests.broker.client import BOUNDS, CAPS, NODES, Client, frame, open_served


async def closed(client: Client) -> bool:
    with pytest.raises(EOFError):
        await client.read()
    return True


def produce(payload: bytes = b"x", **fields: Any) -> pb.Request:
    return pb.Request(produce=pb.Produce(topic="t", payload=payload, **fields))


# Clusters


async def test_before_the_bootstrap_nobody_leads_and_after_it_everything_works(autojump_clock: object) -> None:
    async with open_served(formed=False) as served:
        client = served.connect()
        stats = await client.ask(stats=pb.Stats())
        assert (stats.current_leader, stats.current_term, stats.last_applied, stats.is_leader) == (0, 0, 0, False)
        refused = await client.ask(create_topic=pb.CreateTopic(topic="t"))
        assert (refused.code, refused.leader_addr) == ("not_leader", "")
        for nodes in ([], [pb.Node(id=2, peer_addr="b")]):
            refused = await client.ask(bootstrap=pb.Bootstrap(nodes=nodes))
            assert refused.code == "bootstrap_failed"
        assert isinstance(await client.ask(bootstrap=pb.Bootstrap(nodes=NODES)), pb.Ok)
        assert isinstance(await client.ask(create_topic=pb.CreateTopic(topic="t")), pb.Ok)
        # Again, with any list: without effect.
        assert isinstance(await client.ask(bootstrap=pb.Bootstrap()), pb.Ok)
        assert await client.produce("t", b"one") == 0
        (item,) = await client.poll()
        await client.ack(item.lease_id)
        assert await client.offsets(visibility_timeout_ms=1) == []
        stats = await client.ask(stats=pb.Stats())
        assert (stats.current_leader, stats.current_term, stats.is_leader, stats.topics) == (1, 1, True, 1)
        assert (stats.messages, stats.in_flight) == (0, 0)


# Frames


async def test_a_node_leads_in_a_term_of_its_own_once_the_log_takes_it(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_memory_log() as log:
        async with open_served(log) as served:
            assert (await served.connect().ask(stats=pb.Stats())).current_term == 1
        append, broken = log.append, True

        async def try_to_append(*arguments: Any, **options: Any) -> int:
            if broken:
                raise LogUnavailable("the disk is full")
            return await append(*arguments, **options)

        monkeypatch.setattr(log, "append", try_to_append)
        async with open_served(log) as served:
            client = served.connect()
            stats = await client.ask(stats=pb.Stats())
            assert (stats.is_leader, stats.current_leader, stats.current_term) == (False, 0, 1)
            assert (await client.ask(create_topic=pb.CreateTopic(topic="t"))).code == "not_leader"
            broken = False
            await trio.sleep(2)
            stats = await client.ask(stats=pb.Stats())
            assert (stats.is_leader, stats.current_leader, stats.current_term) == (True, 1, 2)
            assert await client.produce("t", b"") == 0


@pytest.mark.parametrize("message", [b"", b"\xff\xff", b"\x92\x01\x00"])
async def test_a_frame_without_a_request_is_refused_in_its_turn(message: bytes, autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.send_bytes(frame(produce()) + len(message).to_bytes(4, "big") + message + frame(produce()))
        answers = [client.found(await client.read()) for _ in range(3)]
        assert [type(answer) for answer in answers] == [pb.Produced, pb.Error, pb.Produced]
        assert answers[1].code == "bad_request"


async def test_a_frame_that_is_too_large_closes_after_the_answers_before(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.send_bytes(frame(produce()) * 3 + (BOUNDS.max_frame + 1).to_bytes(4, "big") + b"x")
        assert [client.found(await client.read()).offset for _ in range(3)] == [0, 1, 2]
        assert await closed(client)


async def test_half_a_frame_has_thirty_seconds_and_a_length_as_long_as_it_wants(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.send_bytes(b"\0\0")
        await trio.sleep(3600)
        await client.send_bytes(b"\0\7")
        began = trio.current_time()
        # A byte now and then gains no time.
        for byte in b"half":
            await trio.sleep(6)
            await client.send_bytes(bytes([byte]))
        assert await closed(client)
        assert trio.current_time() - began == pytest.approx(30, abs=0.1)


async def test_a_half_closed_client_gets_its_answers(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.send(produce(), produce(), pb.Request(poll=pb.Poll(topic="t", group="g")))
        await client.stream.send_stream.aclose()  # type: ignore[attr-defined]
        assert [client.found(await client.read()).offset for _ in range(2)] == [0, 1]
        assert [item.offset for item in client.found(await client.read()).items] == [0, 1]
        assert await closed(client)


async def test_a_client_that_sends_on_and_on_is_read_only_as_far_as_it_is_answered(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        parked = frame(pb.Request(poll=pb.Poll(topic="none", group="g", wait_ms=10_000)))
        await client.send_bytes(parked + frame(produce()) * 500)
        await trio.sleep(1)
        # The answers wait behind the parked poll, and so do the requests behind the bound.
        assert served.machine.topics["t"].messages.next == MAX_UNANSWERED - 1
        assert client.found(await client.read()) == pb.Polled()
        assert [client.found(await client.read()).offset for _ in range(500)] == list(range(500))


# Tokens


@pytest.mark.parametrize("first", [pb.Request(auth=pb.Auth(token="wrong")), pb.Request(stats=pb.Stats()), produce()])
async def test_with_a_token_another_first_request_is_refused(first: pb.Request, autojump_clock: object) -> None:
    async with open_served(bounds=replace(BOUNDS, token=b"secret")) as served:
        client = served.connect()
        await client.send(first, produce())
        assert client.found(await client.read()).code == "unauthorized"
        assert await closed(client)
        admitted = served.connect()
        # Not understood is not a try.
        await admitted.send_bytes(b"\0\0\0\0")
        assert admitted.found(await admitted.read()).code == "bad_request"
        await admitted.send(pb.Request(auth=pb.Auth(token="secret")), produce())
        assert [type(admitted.found(await admitted.read())) for _ in range(2)] == [pb.Ok, pb.Produced]


async def test_without_a_token_auth_has_no_effect(autojump_clock: object) -> None:
    async with open_served() as served:
        assert isinstance(await served.connect().ask(auth=pb.Auth(token="any")), pb.Ok)


# Bounds


async def test_a_payload_that_is_too_large_leaves_the_connection_usable(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        refused = await client.ask(produce=pb.Produce(topic="t", payload=bytes(MAX_PAYLOAD_BYTES + 1)))
        assert refused.code == "payload_too_large"
        assert await client.produce("t", bytes(MAX_PAYLOAD_BYTES)) == 0
        assert (await client.poll())[0].payload == bytes(MAX_PAYLOAD_BYTES)


@pytest.mark.parametrize("name", ["x" * 257, "é" * 129])
async def test_a_name_that_is_too_long_is_refused_but_for_delete(name: str, autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        for request in (
            pb.Request(produce=pb.Produce(topic=name)),
            pb.Request(produce=pb.Produce(producer_id=name)),
            pb.Request(poll=pb.Poll(group=name)),
            pb.Request(ack=pb.Ack(topic=name)),
            pb.Request(commit=pb.Commit(group=name)),
            pb.Request(create_topic=pb.CreateTopic(topic=name)),
            pb.Request(set_retention=pb.SetRetention(topic=name)),
        ):
            await client.send(request)
            assert client.found(await client.read()).code == "bad_request", request
        assert isinstance(await client.ask(delete_topic=pb.DeleteTopic(topic=name)), pb.Ok)
        assert isinstance(await client.ask(create_topic=pb.CreateTopic(topic="x" * 256)), pb.Ok)
        await client.subscribe(name)
        assert client.found(await client.read()).code == "bad_request"
        assert await closed(client)


async def test_topics_and_groups_have_their_caps(autojump_clock: object) -> None:
    async with open_served(caps=msgspec.structs.replace(CAPS, max_topics=2, max_groups=1)) as served:
        client = served.connect()
        assert await client.produce("t", b"x") == 0
        assert await client.produce("u", b"x") == 0
        for request in (produce_to("v"), pb.Request(create_topic=pb.CreateTopic(topic="v"))):
            await client.send(request)
            assert client.found(await client.read()).code == "rejected"
        assert await client.offsets(group="first") == [0]
        assert await client.offsets(group="second") == []
        assert isinstance(await client.ask(commit=pb.Commit(topic="t", group="second", offset=1)), pb.Ok)
        assert isinstance(await client.ask(delete_topic=pb.DeleteTopic(topic="u")), pb.Ok)
        assert await client.produce("v", b"x") == 0


def produce_to(topic: str) -> pb.Request:
    return pb.Request(produce=pb.Produce(topic=topic))


async def test_what_is_unknown_is_no_error(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.ack(7)
        await client.ack(7, topic="none")
        assert isinstance(await client.ask(nack=pb.Nack(topic="none", group="g", lease_id=1)), pb.Ok)
        assert isinstance(await client.ask(commit=pb.Commit(topic="none", group="g", offset=1)), pb.Ok)
        assert isinstance(await client.ask(delete_topic=pb.DeleteTopic(topic="none")), pb.Ok)
        assert await client.offsets("none") == []
        assert served.machine.topics == {}


async def test_the_empty_text_is_a_name(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        assert await client.produce("", b"x") == 0
        assert await client.offsets("", "") == [0]


# Polls


async def test_defaults_of_a_poll(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        for _ in range(20):
            await client.produce("t", b"x")
        assert await client.offsets(max=0, visibility_timeout_ms=0) == list(range(16))
        assert await client.offsets(max=16, visibility_timeout_ms=0) == list(range(16, 20))
        await trio.sleep(29.9)
        assert await client.offsets() == []
        await trio.sleep(0.2)
        assert await client.offsets(max=2000) == list(range(20))


async def test_a_visibility_beyond_all_ends_after_twelve_hours(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.produce("t", b"x")
        assert await client.offsets(visibility_timeout_ms=10**9) == [0]
        await trio.sleep(12 * 3600 - 1)
        assert await client.offsets() == []
        await trio.sleep(2)
        assert await client.offsets() == [0]


async def test_a_long_poll_wakes_when_a_message_comes(autojump_clock: object) -> None:
    async with open_served() as served:
        waiting, producing = served.connect(), served.connect()
        await waiting.send(pb.Request(poll=pb.Poll(topic="t", group="g", wait_ms=5000)))
        await trio.sleep(0.3)
        await producing.produce("t", b"x")
        began = trio.current_time()
        assert [item.offset for item in waiting.found(await waiting.read()).items] == [0]
        assert trio.current_time() - began < 0.05


async def test_a_long_poll_ends_with_no_messages_at_its_time(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.produce("t", b"x")
        assert await client.offsets() == [0]
        began = trio.current_time()
        assert await client.offsets(wait_ms=1234) == []
        assert trio.current_time() - began == pytest.approx(1.234, abs=0.01)
        began = trio.current_time()
        assert await client.offsets("none", wait_ms=10**9) == []
        assert trio.current_time() - began == pytest.approx(300, abs=0.01)


async def test_a_long_poll_wakes_when_a_lease_ends_or_is_given_back(autojump_clock: object) -> None:
    async with open_served() as served:
        client, other = served.connect(), served.connect()
        await client.produce("t", b"x")
        (item,) = await other.poll(visibility_timeout_ms=1000)
        began = trio.current_time()
        (again,) = await client.poll(wait_ms=5000)
        assert 1.0 <= trio.current_time() - began < 1.3
        assert (again.offset, again.ts_ms, again.lease_id != item.lease_id) == (0, item.ts_ms, True)
        await other.send(pb.Request(poll=pb.Poll(topic="t", group="g", wait_ms=5000)))
        await trio.sleep(0.05)
        began = trio.current_time()
        assert isinstance(await client.ask(nack=pb.Nack(topic="t", group="g", lease_id=again.lease_id)), pb.Ok)
        assert [item.offset for item in other.found(await other.read()).items] == [0]
        assert trio.current_time() - began < 0.05


async def test_an_ack_after_the_deadline_counts_if_no_poll_came_first(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.produce("t", b"x")
        (item,) = await client.poll(visibility_timeout_ms=100)
        await trio.sleep(10)
        await client.ack(item.lease_id)
        assert await client.offsets() == []


async def test_a_client_that_goes_leaves_no_lease_behind_in_a_parked_poll(autojump_clock: object) -> None:
    async with open_served() as served:
        gone, client = served.connect(), served.connect()
        await gone.send(pb.Request(poll=pb.Poll(topic="t", group="g", wait_ms=60_000)))
        await trio.sleep(1)
        await trio.aclose_forcefully(gone.stream)
        await trio.sleep(0.1)
        await client.produce("t", b"x")
        assert served.machine.in_flight == 0
        assert await client.offsets() == [0]
        assert len(served.node.sequencer.demand) == 0


async def test_answers_come_in_order_behind_a_parked_poll_and_the_requests_run(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.send(pb.Request(poll=pb.Poll(topic="t", group="g", wait_ms=5000)), produce(b"mine"))
        assert [item.payload for item in client.found(await client.read()).items] == [b"mine"]
        assert client.found(await client.read()).offset == 0


async def test_a_poll_behind_a_produce_sees_it(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.send(produce(b"mine"), pb.Request(poll=pb.Poll(topic="t", group="g")))
        assert client.found(await client.read()).offset == 0
        assert [item.payload for item in client.found(await client.read()).items] == [b"mine"]


async def test_an_auto_poll_is_never_delivered_again(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.produce("t", b"x")
        assert await client.offsets(ack_mode="auto") == [0]
        await trio.sleep(60)
        assert await client.offsets() == []
        assert served.machine.retained == 0


async def test_a_poll_holds_at_most_sixteen_mebibytes(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        for _ in range(20):
            await client.produce("t", bytes(MAX_PAYLOAD_BYTES))
        assert await client.offsets(max=1024) == list(range(16))
        assert await client.offsets(max=1024) == list(range(16, 20))


# Limits


async def test_the_rate_limit_of_a_topic(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.ask(set_rate_limit=pb.SetRateLimit(topic="t", rate_per_sec=1, burst=1))
        for _ in range(3):
            await client.produce("t", b"x")
        assert await client.offsets(max=10) == [0]
        began = trio.current_time()
        limited = await client.ask(poll=pb.Poll(topic="t", group="g", max=10, wait_ms=60_000))
        assert (limited.code, 900 < limited.retry_after_ms <= 1000) == ("rate_limited", True)
        assert trio.current_time() - began < 0.01
        await trio.sleep(limited.retry_after_ms / 1000)
        assert await client.offsets(max=10) == [1]


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
async def test_no_rate_is_no_limit(rate: float, autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        await client.ask(set_rate_limit=pb.SetRateLimit(topic="t", rate_per_sec=rate, burst=1))
        for _ in range(3):
            await client.produce("t", b"x")
        assert await client.offsets(max=10) == [0, 1, 2]


async def test_a_limit_of_messages_applies_when_one_comes(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        for number in range(5):
            await client.produce("t", b"%d" % number)
        await client.ask(set_retention=pb.SetRetention(topic="t", max_messages=3))
        assert served.machine.retained == 5
        await client.produce("t", b"5")
        assert [item.payload for item in await client.poll()] == [b"3", b"4", b"5"]


async def test_a_log_that_has_lost_its_last_records_is_served_as_far_as_it_goes(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_memory_log() as log:
        async with open_served(log) as served:
            await served.connect().produce("t", b"kept")
        read = log.read

        async def read_nothing_at_the_end(index: int, **options: Any) -> Any:
            return [record for record in await read(index, **options) if record.index < last]

        await log.append([b"lost"], expected_index=log.next)
        last = log.next - 1
        monkeypatch.setattr(log, "read", read_nothing_at_the_end)
        async with open_served(log) as served:
            client = served.connect()
            assert [item.payload for item in await client.poll()] == [b"kept"]
            assert await client.produce("t", b"new") == 1


async def test_many_topics_are_counted_once_a_second(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node, "_MANY_TOPICS", 3)
    async with open_served() as served:
        client = served.connect()

        async def count() -> int:
            return int((await client.ask(stats=pb.Stats())).messages)

        await client.produce("a", b"")
        assert await count() == 1
        await client.produce("b", b"")
        assert await count() == 2
        await client.produce("c", b"")
        seen = [await count()]
        await client.produce("c", b"")
        seen.append(await count())
        await trio.sleep(1.1)
        assert await count() == 4
        assert seen == [2, 2]


async def test_a_poll_behind_a_produce_waits_no_longer_than_its_time(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        begun = trio.current_time()
        # The produce is on its way when the poll looks, so it looks again later, and is parked then.
        await client.send(produce(), pb.Request(poll=pb.Poll(topic="other", group="g", wait_ms=700)))
        assert (await client.read()).produced.offset == 0
        assert list((await client.read()).polled.items) == []
        assert trio.current_time() - begun == pytest.approx(0.7, abs=0.01)


async def test_a_refusal_behind_a_parked_poll_ends_the_connection(autojump_clock: object) -> None:
    async with open_served() as served:
        client = served.connect()
        wait = pb.Request(poll=pb.Poll(topic="other", group="g", wait_ms=700))
        await client.send(produce(), wait, pb.Request(subscribe=pb.Subscribe(topic="x" * 300)))
        assert (await client.read()).produced.offset == 0
        assert list((await client.read()).polled.items) == []
        assert (await client.read()).error.code == "bad_request"
        assert await closed(client)
        assert len(served.node.sequencer.demand) == 0
