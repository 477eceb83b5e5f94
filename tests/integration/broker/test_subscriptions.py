"""Subscriptions, as the protocol's checklist has them, seen from outside."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

import pytest

from tests.integration.broker.peer import Peer, framed, request

Connect = Callable[[], Peer]


def test_waiting_messages_come_one_in_a_frame(connect: Connect, topic: str) -> None:
    peer, subscriber = connect(), connect()
    for _ in range(3):
        peer.produce(topic, b"x")
    subscriber.subscribe(topic, prefetch=10)
    items = [subscriber.pushed() for _ in range(3)]
    assert [item.offset for item in items] == [0, 1, 2]
    for item in items:
        subscriber.ack(item.lease_id)
    assert subscriber.silent(0.3)
    assert peer.poll(topic) == []


def test_an_automatic_subscription_wakes_on_a_produce(connect: Connect, topic: str) -> None:
    peer, subscriber = connect(), connect()
    # The topic is not there yet.
    subscriber.subscribe(topic, prefetch=4, ack_mode="auto")
    time.sleep(0.2)
    for number in range(6):
        peer.produce(topic, b"%d" % number)
    assert [subscriber.pushed().payload for _ in range(6)] == [b"%d" % number for number in range(6)]
    assert peer.poll(topic) == []


def test_answers_come_before_the_first_push(peer: Peer, topic: str) -> None:
    produce = request("produce", topic=topic)
    peer.send(produce, produce, request("subscribe", topic=topic, group="g", prefetch=5))
    assert [peer.read().DESCRIPTOR.name for _ in range(2)] == ["Produced", "Produced"]
    assert [peer.pushed().offset for _ in range(2)] == [0, 1]


def test_an_ack_twice_frees_one_place_and_stalls_nothing(connect: Connect, topic: str) -> None:
    peer, subscriber = connect(), connect()
    for _ in range(3):
        peer.produce(topic)
    subscriber.subscribe(topic, prefetch=1)
    first = subscriber.pushed()
    subscriber.ack(first.lease_id)
    subscriber.ack(first.lease_id)
    assert subscriber.pushed().offset == 1
    assert subscriber.silent(0.5), "one place was freed, not two"


@pytest.mark.parametrize("mistake", [framed(b"\xff\xff"), framed(b""), request("stats"), request("produce", topic="t")])
def test_whatever_is_no_ack_is_passed_over(connect: Connect, topic: str, mistake: bytes) -> None:
    peer, subscriber = connect(), connect()
    subscriber.subscribe(topic, prefetch=1)
    subscriber.send(mistake)
    peer.produce(topic)
    peer.produce(topic)
    subscriber.ack(subscriber.pushed().lease_id)
    subscriber.send(mistake)
    assert subscriber.pushed().offset == 1


def test_a_message_that_is_not_acknowledged_comes_again(connect: Connect, topic: str) -> None:
    peer, subscriber = connect(), connect()
    peer.produce(topic)
    subscriber.subscribe(topic, prefetch=1, visibility_timeout_ms=300)
    first = subscriber.pushed()
    begun = time.monotonic()
    again = subscriber.pushed(5)
    assert (again.offset, again.lease_id > first.lease_id, again.ts_ms) == (0, True, first.ts_ms)
    # Two leases were renewed without a push.
    assert 0.8 < time.monotonic() - begun < 3


def test_an_ack_by_the_first_lease_ends_a_message_whose_lease_was_renewed(connect: Connect, topic: str) -> None:
    peer, subscriber = connect(), connect()
    peer.produce(topic)
    subscriber.subscribe(topic, prefetch=4, visibility_timeout_ms=300)
    first = subscriber.pushed()
    assert subscriber.silent(0.6)
    subscriber.ack(first.lease_id)
    assert subscriber.silent(1.0)
    subscriber.socket.close()
    time.sleep(0.1)
    assert peer.poll(topic) == []


def test_a_nack_brings_the_message_again_at_once(connect: Connect, topic: str) -> None:
    peer, subscriber = connect(), connect()
    peer.produce(topic)
    subscriber.subscribe(topic, prefetch=1)
    first = subscriber.pushed()
    subscriber.nack(first.lease_id)
    assert subscriber.pushed(1).lease_id > first.lease_id


def close(peer: Peer) -> None:
    peer.socket.close()


def half_close(peer: Peer) -> None:
    peer.socket.shutdown(socket.SHUT_WR)


def reset(peer: Peer) -> None:
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.socket.close()


def send_too_much(peer: Peer) -> None:
    peer.send(struct.pack(">I", 2**31))


@pytest.mark.parametrize("end", [close, half_close, reset, send_too_much])
def test_the_end_gives_every_lease_back_within_a_second(
    connect: Connect, topic: str, end: Callable[[Peer], None]
) -> None:
    peer, subscriber = connect(), connect()
    for _ in range(20):
        peer.produce(topic, b"x" * 1000)
    subscriber.subscribe(topic, prefetch=10)
    items = [subscriber.pushed() for _ in range(3)]
    # Acks that were sent before the end count, but for a reset, which may overtake them.
    if end is not reset:
        subscriber.ack(items[1].lease_id)
    begun = time.monotonic()
    end(subscriber)
    expected = set(range(20)) - ({1} if end is not reset else set())
    seen: set[int] = set()
    while seen != expected:
        assert time.monotonic() - begun < 1, f"lacks {expected - seen}, has beyond {seen - expected}"
        seen |= set(peer.offsets(topic, max=100))
    if end in (half_close, send_too_much):
        # What it had been sent stands before the end, and no error.
        assert all(len(found.items) == 1 for found in subscriber.rest())


def test_a_limited_topic_is_waited_for_in_silence(connect: Connect, topic: str) -> None:
    peer, subscriber = connect(), connect()
    peer.ok("set_rate_limit", topic=topic, rate_per_sec=4.0, burst=1)
    for _ in range(4):
        peer.produce(topic)
    begun = time.monotonic()
    subscriber.subscribe(topic, prefetch=10, ack_mode="auto")
    assert [subscriber.pushed().offset for _ in range(4)] == [0, 1, 2, 3]
    assert 0.6 < time.monotonic() - begun < 3


def test_subscribers_share_what_comes(connect: Connect, topic: str) -> None:
    peer, subscribers = connect(), [connect() for _ in range(3)]
    for subscriber in subscribers:
        subscriber.subscribe(topic, prefetch=10)
    time.sleep(0.2)
    for _ in range(30):
        peer.produce(topic)
    seen = [subscriber.pushed().offset for subscriber in subscribers for _ in range(10)]
    assert sorted(seen) == list(range(30))


def test_an_idle_subscription_gets_an_empty_answer_every_ten_seconds(connect: Connect, topic: str) -> None:
    subscriber = connect()
    begun = time.monotonic()
    subscriber.subscribe(topic)
    found = subscriber.read()
    assert (found.DESCRIPTOR.name, len(found.items)) == ("Polled", 0)
    assert 9 < time.monotonic() - begun < 13
