"""Requests and their answers, as the protocol's checklist has them, seen from outside."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.broker.daemon import Daemon
from tests.integration.broker.peer import Peer, framed, messages, request

Connect = Callable[[], Peer]


def test_a_message_goes_its_way_and_is_not_delivered_again_after_its_ack(peer: Peer, topic: str) -> None:
    peer.ok("create_topic", topic=topic)
    before = time.time() * 1000
    assert peer.produce(topic, b"hello", content_type=2, priority=3) == 0
    (item,) = peer.poll(topic)
    assert (item.offset, item.payload, item.content_type, item.priority) == (0, b"hello", 2, 3)
    assert before - 1000 < item.ts_ms < before + 10_000
    peer.ok("ack", topic=topic, group="g", lease_id=item.lease_id)
    assert peer.offsets(topic) == []


def test_empty_answers_stand_on_the_wire(peer: Peer, topic: str) -> None:
    peer.send(request("create_topic", topic=topic), request("poll", topic=topic, group="g"))
    assert peer.raw() == b"\x1a\x00"
    assert peer.raw() == b"\x12\x00"
    assert request("stats") == framed(b"\x42\x00")


def test_a_long_poll_wakes_on_a_produce_and_ends_at_its_time(connect: Connect, topic: str) -> None:
    waiting, other = connect(), connect()
    begun = time.monotonic()
    waiting.send(request("poll", topic=topic, group="g", wait_ms=5000))
    time.sleep(0.3)
    other.produce(topic, b"late")
    assert [item.payload for item in waiting.read().items] == [b"late"]
    assert 0.25 < time.monotonic() - begun < 3
    begun = time.monotonic()
    assert waiting.poll(topic, wait_ms=400) == []
    assert 0.35 < time.monotonic() - begun < 3


def test_a_waiting_poll_holds_up_answers_and_not_work(connect: Connect, topic: str) -> None:
    waiting, other = connect(), connect()
    waiting.send(
        request("poll", topic=f"{topic} absent", group="g", wait_ms=1500), request("produce", topic=topic, payload=b"x")
    )
    until = time.monotonic() + 1
    while not (found := other.poll(topic)):
        assert time.monotonic() < until
    assert found[0].payload == b"x"
    assert list(waiting.read().items) == []
    assert waiting.read().offset == 0


def test_a_parked_poll_whose_client_goes_takes_no_message(connect: Connect, topic: str) -> None:
    waiting, other = connect(), connect()
    waiting.send(request("poll", topic=topic, group="g", wait_ms=60_000))
    time.sleep(0.2)
    waiting.socket.close()
    other.produce(topic)
    assert other.offsets(topic, wait_ms=1000) == [0]


def test_zeros_mean_the_defaults(peer: Peer, topic: str) -> None:
    for _ in range(17):
        peer.produce(topic)
    assert len(peer.poll(topic, max=0, visibility_timeout_ms=0)) == 16
    assert peer.offsets(topic, max=0, visibility_timeout_ms=0) == [16]
    assert peer.poll(topic) == []


def test_answers_of_pipelined_requests_come_in_order(peer: Peer, topic: str) -> None:
    produce = request("produce", topic=topic, payload=b"x")
    peer.send(request("create_topic", topic=topic), produce, produce, produce, request("stats"))
    names = [peer.read() for _ in range(5)]
    assert [each.DESCRIPTOR.name for each in names] == ["Ok", "Produced", "Produced", "Produced", "StatsResult"]
    assert sorted(each.offset for each in names[1:4]) == [0, 1, 2]


def test_more_requests_than_may_be_unanswered_are_all_answered(peer: Peer, topic: str) -> None:
    frames = [request("produce", topic=topic, payload=b"%d" % number) for number in range(500)]
    peer.send(*frames)
    assert sorted(peer.read().offset for _ in frames) == list(range(500))


def test_a_payload_may_have_a_mebibyte_and_not_a_byte_more(peer: Peer, topic: str) -> None:
    most = 2**20
    assert peer.fails("produce", topic=topic, payload=b"x" * (most + 1)).code == "payload_too_large"
    assert peer.produce(topic, b"x" * most) == 0
    assert [len(item.payload) for item in peer.poll(topic)] == [most]


def test_the_rate_limits_deliveries_and_no_produce(peer: Peer, topic: str) -> None:
    peer.ok("set_rate_limit", topic=topic, rate_per_sec=1.0, burst=1)
    assert [peer.produce(topic) for _ in range(3)] == [0, 1, 2]
    assert peer.offsets(topic, max=10) == [0]
    begun = time.monotonic()
    error = peer.fails("poll", topic=topic, group="g", max=10, wait_ms=5000)
    assert error.code == "rate_limited"
    assert 0 < error.retry_after_ms <= 1000
    assert time.monotonic() - begun < 0.9, "it does not wait"
    time.sleep(error.retry_after_ms / 1000)
    assert peer.offsets(topic, max=10) == [1]


@pytest.mark.parametrize("unlimited", [0.0, -1.0, float("nan")])
def test_a_rate_that_is_none_lifts_the_limit(peer: Peer, topic: str, unlimited: float) -> None:
    peer.ok("set_rate_limit", topic=topic, rate_per_sec=0.001, burst=1)
    for _ in range(3):
        peer.produce(topic)
    assert peer.offsets(topic, max=10) == [0]
    peer.ok("set_rate_limit", topic=topic, rate_per_sec=unlimited, burst=1)
    assert peer.offsets(topic, max=10) == [1, 2]


def test_an_automatic_poll_is_an_ack_and_a_manual_one_a_lease(peer: Peer, topic: str) -> None:
    peer.produce(topic)
    peer.produce(topic)
    assert peer.offsets(topic, max=1, ack_mode="auto", visibility_timeout_ms=100) == [0]
    (leased,) = peer.poll(topic, max=1, visibility_timeout_ms=100)
    time.sleep(0.15)
    (again,) = peer.poll(topic, wait_ms=1000)
    assert (again.offset, again.ts_ms) == (1, leased.ts_ms)
    assert again.lease_id > leased.lease_id


def test_a_nack_gives_back_at_once(connect: Connect, topic: str) -> None:
    one, other = connect(), connect()
    one.produce(topic)
    (item,) = one.poll(topic)
    other.send(request("poll", topic=topic, group="g", wait_ms=10_000))
    one.ok("nack", topic=topic, group="g", lease_id=item.lease_id)
    assert [each.offset for each in other.read(2).items] == [0]


def test_sent_again_is_stored_once(peer: Peer, topic: str) -> None:
    keys = [("p", 1), ("p", 2), ("p", 1), ("", 0), ("", 0), ("p", 0), ("q", 1), ("p", 0)]
    peer.send(*(request("produce", topic=topic, producer_id=producer, seq=seq) for producer, seq in keys))
    assert [peer.read().offset for _ in keys] == [0, 1, 0, 2, 3, 4, 5, 4]
    assert len(peer.poll(topic)) == 6


def test_priorities_and_the_share_of_the_oldest(peer: Peer, topic: str) -> None:
    for priority in (0, 5, 3):
        peer.produce(topic, priority=priority)
    assert peer.offsets(topic, max=10) == [1, 2, 0]
    other = f"{topic} 2"
    peer.produce(other, priority=0)
    for _ in range(5):
        peer.produce(other, priority=7)
    assert 0 in [offset for _ in range(4) for offset in peer.offsets(other, max=1)]
    assert [item.priority for item in peer.poll(other)] == [7, 7]
    peer.produce(other, priority=4_000_000_000)
    assert [item.priority for item in peer.poll(other)] == [7]


def test_consumers_of_a_group_share_and_groups_do_not(connect: Connect, topic: str) -> None:
    one, other = connect(), connect()
    for _ in range(10):
        one.produce(topic)
    shares = [connection.offsets(topic, max=3) for connection in (one, other, one, other)]
    assert shares == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert one.offsets(topic, "another") == list(range(10))


def test_retention_by_number_and_what_it_takes_with_it(peer: Peer, topic: str) -> None:
    peer.ok("set_retention", topic=topic, max_messages=3, max_age_ms=0)
    leases = []
    for _ in range(5):
        peer.produce(topic)
        leases += peer.poll(topic, max=1)
    peer.ok("ack", topic=topic, group="g", lease_id=leases[0].lease_id)
    assert peer.offsets(topic, "new") == [2, 3, 4]
    # The leases of what is gone are gone too, and those of the others are not.
    assert peer.offsets(topic) == []
    peer.ok("nack", topic=topic, group="g", lease_id=leases[1].lease_id)
    peer.ok("nack", topic=topic, group="g", lease_id=leases[2].lease_id)
    assert peer.offsets(topic) == [2]


def test_retention_by_age(peer: Peer, topic: str) -> None:
    peer.ok("set_retention", topic=topic, max_messages=0, max_age_ms=300)
    peer.produce(topic, producer_id="p", seq=1)
    time.sleep(0.4)
    assert peer.produce(topic) == 1
    assert peer.offsets(topic) == [1]
    # What retention took may be sent again.
    assert peer.produce(topic, producer_id="p", seq=1) == 2


def retained(peer: Peer) -> int:
    """Messages in all topics."""
    return int(peer.ask("stats").messages)


def test_what_every_group_has_done_is_reclaimed(peer: Peer, topic: str) -> None:
    before = retained(peer)
    peer.ok("create_topic", topic=topic)
    assert peer.poll(topic, "slow") == []
    for _ in range(4):
        peer.produce(topic)
    for item in peer.poll(topic, "quick"):
        peer.ok("ack", topic=topic, group="quick", lease_id=item.lease_id)
    assert retained(peer) == before + 4
    peer.ok("commit", topic=topic, group="slow", offset=3)
    assert retained(peer) == before + 1
    peer.ok("commit", topic=topic, group="slow", offset=10**18)
    assert retained(peer) == before
    # A commit far beyond the end reaches no message that comes later.
    assert peer.produce(topic) == 4
    assert peer.offsets(topic, "slow") == [4]


def test_without_a_group_nothing_is_reclaimed(peer: Peer, topic: str) -> None:
    before = retained(peer)
    for _ in range(3):
        peer.produce(topic)
    assert retained(peer) == before + 3


def test_a_group_that_polled_the_empty_topic_gets_what_another_has_done_since(peer: Peer, topic: str) -> None:
    peer.ok("create_topic", topic=topic)
    assert peer.poll(topic, "early") == []
    peer.produce(topic)
    assert peer.offsets(topic, "other", ack_mode="auto") == [0]
    assert peer.offsets(topic, "early") == [0]


def test_a_topic_that_is_deleted_begins_anew_and_its_leases_mean_nothing(peer: Peer, topic: str) -> None:
    peer.produce(topic, b"old", producer_id="p", seq=1)
    (item,) = peer.poll(topic)
    peer.ok("delete_topic", topic=topic)
    assert peer.poll(topic) == []
    assert peer.produce(topic, b"new", producer_id="p", seq=1) == 0
    peer.ok("ack", topic=topic, group="g", lease_id=item.lease_id)
    (again,) = peer.poll(topic)
    assert (again.payload, again.lease_id > item.lease_id) == (b"new", True)


def test_what_is_not_known_is_no_error(peer: Peer, topic: str) -> None:
    for kind in ("ack", "nack"):
        peer.ok(kind, topic=topic, group="g", lease_id=10**12)
    peer.ok("commit", topic=topic, group="g", offset=7)
    peer.ok("delete_topic", topic=topic)
    assert peer.poll(topic) == []
    topics = peer.ask("stats").topics
    peer.ok("create_topic", topic=topic)
    peer.ok("create_topic", topic=topic)
    assert peer.ask("stats").topics == topics + 1


def test_a_lease_of_another_group_or_topic_is_not_touched(peer: Peer, topic: str) -> None:
    peer.produce(topic)
    (item,) = peer.poll(topic)
    peer.ok("ack", topic=topic, group="other", lease_id=item.lease_id)
    peer.ok("nack", topic=f"{topic} 2", group="g", lease_id=item.lease_id)
    assert peer.poll(topic) == []
    peer.ok("nack", topic=topic, group="g", lease_id=item.lease_id)
    assert peer.offsets(topic) == [0]


def test_an_ack_after_the_deadline_counts_until_a_poll_has_seen_it(peer: Peer, topic: str) -> None:
    peer.produce(topic)
    (item,) = peer.poll(topic, visibility_timeout_ms=50)
    time.sleep(0.1)
    peer.ok("ack", topic=topic, group="g", lease_id=item.lease_id)
    assert peer.poll(topic) == []


def test_every_distinct_message_comes_once_whatever_is_sent_twice(connect: Connect, topic: str) -> None:
    count = 200

    def send(share: int) -> list[int]:
        peer = connect()
        # Every message goes out by two connections, some more than once by each.
        numbers = [*range(share, count), *range(share), *range(0, count, 7)]
        peer.send(*(request("produce", topic=topic, payload=b"%d" % n, producer_id="p", seq=n) for n in numbers))
        return [peer.read().offset for _ in numbers][: len(numbers)]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(send, (0, 50, 100, 150)))
    peer = connect()
    seen = []
    while items := peer.poll(topic, max=64, ack_mode="auto"):
        seen += [int(item.payload) for item in items]
    assert sorted(seen) == list(range(count))


def test_many_writers_at_once_get_dense_offsets(connect: Connect, topic: str) -> None:
    start = threading.Barrier(8)

    def send(writer: int) -> list[tuple[int, bytes]]:
        peer = connect()
        start.wait(10)
        return [(peer.produce(topic, payload), payload) for payload in (b"%d/%d" % (writer, n) for n in range(16))]

    with ThreadPoolExecutor(8) as pool:
        stored = dict(pair for pairs in pool.map(send, range(8)) for pair in pairs)
    assert sorted(stored) == list(range(128))
    assert {item.offset: item.payload for item in connect().poll(topic, max=1000)} == stored


# --- names and frames ---


def test_names_have_at_most_256_bytes(peer: Peer, topic: str) -> None:
    longest, longer = "é" * 128, "é" * 128 + "x"
    for kind, fields in (
        ("produce", {"topic": longer}),
        ("produce", {"topic": topic, "producer_id": longer}),
        ("create_topic", {"topic": longer}),
        ("poll", {"topic": topic, "group": longer}),
        ("ack", {"topic": longer, "group": "g"}),
        ("commit", {"topic": topic, "group": longer}),
        ("set_retention", {"topic": longer}),
    ):
        assert peer.fails(kind, **fields).code == "bad_request", kind
    peer.ok("delete_topic", topic=longer)
    assert peer.produce(longest, producer_id=longest) == 0
    assert peer.offsets(longest, longest) == [0]
    for name in ("", "\0", "a/b c\n"):
        assert peer.produce(name) == 0
        assert peer.offsets(name, name) == [0]


def test_a_subscription_to_a_name_too_long_gets_one_answer(peer: Peer, topic: str) -> None:
    peer.subscribe("x" * 257)
    assert peer.read().code == "bad_request"
    assert peer.closed()


@pytest.mark.parametrize("body", [b"", b"\xff\xff\xff", b"\x0a", b"\xfa\x7f\x00", b"hello"])
def test_a_frame_that_is_no_request_is_refused_in_its_turn(peer: Peer, topic: str, body: bytes) -> None:
    produce = request("produce", topic=topic)
    peer.send(produce, framed(body), produce)
    assert peer.read().offset == 0
    assert peer.read().code == "bad_request"
    assert peer.read().offset == 1


def test_a_frame_too_large_ends_the_connection_after_the_answers_before_it(peer: Peer, topic: str) -> None:
    produce = request("produce", topic=topic)
    peer.send(produce, produce, produce, struct.pack(">I", 2 * 2**20 + 1))
    assert [peer.read().offset for _ in range(3)] == [0, 1, 2]
    assert peer.closed()


def test_a_frame_of_the_largest_size_is_read(peer: Peer, topic: str) -> None:
    # A field that nobody knows fills it up.
    produce = request("produce", topic=topic)[4:]
    rest = 2 * 2**20 - len(produce) - 5
    filler = b"\xfa\x7f" + bytes([rest & 127 | 128, rest >> 7 & 127 | 128, rest >> 14]) + b"x" * rest
    assert len(produce + filler) == 2 * 2**20
    peer.send(framed(produce + filler))
    assert peer.read().offset == 0


def test_a_client_that_only_stops_sending_gets_its_answers(peer: Peer, topic: str) -> None:
    produce = request("produce", topic=topic)
    peer.send(produce, produce)
    peer.socket.shutdown(1)
    assert [peer.read().offset for _ in range(2)] == [0, 1]
    assert peer.closed()


def test_requests_one_byte_at_a_time_are_read(peer: Peer, topic: str) -> None:
    for byte in request("produce", topic=topic, payload=b"slow"):
        peer.socket.sendall(bytes([byte]))
    assert peer.read().offset == 0


def test_bootstrap_again_changes_nothing(peer: Peer, daemon: Daemon) -> None:
    peer.ok("bootstrap", nodes=[])
    peer.ok("bootstrap", nodes=[messages().Node(id=9, peer_addr="x:1")])
    stats = peer.ask("stats")
    assert (stats.current_leader, stats.is_leader, stats.current_term > 0) == (1, True, True)
    assert stats.last_applied == stats.last_log_index > 0
    peer.ok("auth", token="whatever")
