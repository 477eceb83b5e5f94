"""The kafka sink on librdkafka's mock brokers: the contract, what a message is, refusals, outages, cancellation."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from itertools import count
from typing import Any

import pytest
import trio
from hermes_sinks.kafka import KafkaSettings, KafkaSink, open_kafka
from msgspec import json

from hermes import BatchRejected, ConfigError, Event, SinkUnavailable, Storage
from hermes.events.sink import Sink
from hermes.testing import check_sink, make_batch, make_event, make_events
from tests.integration.faults import few_descriptors
from tests.needs import lacks
from tests.servers.kafka import ClusterUnavailableError, KafkaCluster, Reader

# An idempotent producer waits half a second for its number, each time that one is made.
PLAIN = "enable.idempotence=false"
TOO_LARGE, INVALID_RECORD, NOT_ALLOWED, TIMED_OUT, NO_REPLICAS = 10, 87, 29, 7, 19
_names = count(1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[KafkaCluster]:
    """A running cluster; the test is skipped where none can be had, or fails under CI=true."""
    try:
        cluster = KafkaCluster()
    except ClusterUnavailableError as error:
        lacks(str(error))
    yield cluster
    cluster.close()


@pytest.fixture
def topic() -> str:
    return f"events-{next(_names)}"


@pytest.fixture
def read(cluster: KafkaCluster, topic: str) -> Iterator[Callable[..., list[Any]]]:
    """Reads all messages of a topic, of the test's own unless told otherwise."""
    readers: dict[str, Reader] = {}

    def read(name: str = topic) -> list[Any]:
        if name not in readers:
            readers[name] = Reader(cluster, name)
        return readers[name].read()

    yield read
    for reader in readers.values():
        reader.close()


def opened(cluster: KafkaCluster, topic: str, **settings: Any) -> AbstractAsyncContextManager[KafkaSink]:
    chosen = {"brokers": (cluster.brokers,), "topic": topic, "options": PLAIN, **settings}
    return open_kafka(KafkaSettings(**chosen), Storage())


async def unavailable(sink: Sink, events: Sequence[Event] | int = 1) -> str:
    with pytest.raises(SinkUnavailable) as raised:
        await sink.write(make_batch(events))
    return str(raised.value)


async def refused(sink: Sink, events: Sequence[Event]) -> dict[int, str]:
    with pytest.raises(BatchRejected) as raised:
        await sink.write(make_batch(events))
    return raised.value.reasons


async def write_as_the_engine_does(sink: Sink, events: Sequence[Event] | int) -> None:
    """The same batch again and again, until it is taken."""
    with trio.fail_after(30):
        while True:
            try:
                return await sink.write(make_batch(events))
            except SinkUnavailable:
                await trio.sleep(0.05)


def ids(messages: Sequence[Any]) -> list[str]:
    return sorted(json.decode(message.value())["id"] for message in messages)


async def test_it_conforms(cluster: KafkaCluster, topic: str, read: Callable[[], list[Any]]) -> None:
    async def read_back() -> list[Event]:
        return [json.decode(message.value(), type=Event) for message in await trio.to_thread.run_sync(read)]

    # What a broker takes has a megabyte at most; a line break in a payload becomes a space.
    await check_sink(
        lambda: opened(cluster, topic, max_batch=3000), read_back, exact_payload=False, largest_payload=500_000
    )


async def test_a_message_has_the_key_the_headers_and_the_time_of_arrival(
    cluster: KafkaCluster, topic: str, read: Callable[[], list[Any]]
) -> None:
    async with opened(cluster, topic, options="") as sink:
        await sink.write(make_batch([make_event("é", payload='{\n"n": 1.50}')]))
    (message,) = read()
    assert message.key() == b"user-1"
    assert message.headers() == [("id", "é".encode()), ("type", b"song_played")]
    assert message.timestamp() == (1, 1_700_000_001_250)
    assert message.value() == (
        '{"id":"é","user_id":"user-1","type":"song_played","timestamp":1700000000,"payload":{ "n": 1.50}}'.encode()
    )


@pytest.mark.parametrize(("key", "found"), [("id", b"a"), ("type", b"song_played"), ("none", None)])
async def test_the_key_is_what_the_operator_chose(
    cluster: KafkaCluster, topic: str, read: Callable[[], list[Any]], key: str, found: bytes | None
) -> None:
    async with opened(cluster, topic, key=key) as sink:
        await sink.write(make_batch([make_event("a")]))
    assert [message.key() for message in read()] == [found]


async def test_the_events_of_a_key_keep_their_order(
    cluster: KafkaCluster, topic: str, read: Callable[[], list[Any]]
) -> None:
    events = [make_event(f"{n:04}", user_id=f"user-{n % 7}") for n in range(2000)]
    async with opened(cluster, topic) as sink:
        for start in range(0, 2000, 500):
            await sink.write(make_batch(events[start : start + 500]))
    orders: dict[bytes, list[str]] = {}
    for message in read():
        orders.setdefault(message.key(), []).append(json.decode(message.value())["id"])
    assert len(orders) == 7
    assert all(order == sorted(order) for order in orders.values())


async def test_each_type_may_have_its_topic(cluster: KafkaCluster, topic: str, read: Callable[..., list[Any]]) -> None:
    async with opened(cluster, topic + ".{type}") as sink:
        await sink.write(make_batch([make_event("a", type="cart:add"), make_event("b", type="ad_clicked")]))
    assert ids(read(f"{topic}.cart_add")) == ["a"]
    assert ids(read(f"{topic}.ad_clicked")) == ["b"]


async def test_a_message_that_is_larger_than_the_client_sends_is_refused(
    cluster: KafkaCluster, topic: str, read: Callable[[], list[Any]]
) -> None:
    events = [*make_events(3), make_event("large", payload='{"v": "' + "x" * 1_100_000 + '"}'), make_event("last")]
    async with opened(cluster, topic) as sink:
        reasons = await refused(sink, [make_event("half \ud800"), *events])
    assert reasons.keys() == {0, 4}
    assert "MSG_SIZE_TOO_LARGE" in reasons[4]
    assert ids(read()) == ["event-0", "event-1", "event-2", "last"]


@pytest.mark.parametrize("code", [TOO_LARGE, INVALID_RECORD])
async def test_a_request_that_the_broker_refuses_goes_again_message_by_message(
    cluster: KafkaCluster, topic: str, read: Callable[[], list[Any]], code: int
) -> None:
    events = [make_event(f"e{n}", user_id="one partition") for n in range(6)]
    # They go together, however slow the machine is: six are a full request.
    async with opened(cluster, topic, linger=5.0, options=f"{PLAIN},batch.num.messages=6") as sink:
        cluster.fail_next(code, code)  # the request, and of those with one message the first
        assert (await refused(sink, events)).keys() == {0}
    assert ids(read()) == ["e1", "e2", "e3", "e4", "e5"]


async def test_a_passing_error_of_a_broker_is_tried_again_by_the_client(
    cluster: KafkaCluster, topic: str, read: Callable[[], list[Any]]
) -> None:
    async with opened(cluster, topic, options="") as sink:
        cluster.fail_next(TIMED_OUT, NO_REPLICAS)
        await sink.write(make_batch(10))
    assert len(read()) == 10


async def test_a_right_that_is_missing_costs_no_event_and_is_not_remembered(
    cluster: KafkaCluster, topic: str, read: Callable[[], list[Any]]
) -> None:
    async with opened(cluster, topic) as sink:
        cluster.fail_next(NOT_ALLOWED)
        assert "the user may not write to the topic" in await unavailable(sink, 5)
        cluster.forget_failures()
        await sink.write(make_batch(5))
    assert set(ids(read())) == {f"event-{n}" for n in range(5)}


async def test_an_outage_is_unavailable_leaves_nothing_behind_and_ends(
    cluster: KafkaCluster, topic: str, read: Callable[[], list[Any]]
) -> None:
    async with opened(cluster, topic, ack_timeout=0.4) as sink:
        await write_as_the_engine_does(sink, 3)
        cluster.stop()
        try:
            error = await unavailable(sink, make_events(5, prefix="late"))
        finally:
            cluster.start()
        assert "_MSG_TIMED_OUT" in error
        await write_as_the_engine_does(sink, [make_event("after")])
    assert set(ids(read())) == {"after", "event-0", "event-1", "event-2"}


async def test_brokers_that_are_not_there_are_told() -> None:
    settings = KafkaSettings(brokers=("127.0.0.1:1",), ack_timeout=0.3)
    async with open_kafka(settings, Storage()) as sink:
        error = await unavailable(sink)
    assert "_MSG_TIMED_OUT" in error
    assert "127.0.0.1:1" in error


async def test_a_cancelled_write_ends_soon_and_leaves_nothing_on_its_way(
    cluster: KafkaCluster, topic: str, read: Callable[[], list[Any]]
) -> None:
    async with opened(cluster, topic) as sink:
        await sink.write(make_batch(1))
        cluster.delay(3000)
        gc.collect()
        gc.disable()  # which runs rarely in the service
        tracemalloc.start()
        try:
            with trio.fail_after(20):
                async with trio.open_nursery() as nursery:
                    batch = make_batch(make_events(500, prefix="cancelled", payload=b'"%b"' % (b"x" * 10_000)))
                    nursery.start_soon(sink.write, batch)
                    del batch
                    while not len(sink._together._handle):  # noqa: ASYNC110 - until librdkafka has some
                        await trio.sleep(0.01)
                    began = time.monotonic()
                    nursery.cancel_scope.cancel()
            assert time.monotonic() - began < 3, "less than the broker's delay"
            await trio.to_thread.run_sync(len, "")  # the thread of the call holds it until it has another
            left, _ = tracemalloc.get_traced_memory()
            assert left < 500 * 10_000 / 10, f"{left} bytes of the batch are left"
        finally:
            tracemalloc.stop()
            gc.enable()
            cluster.delay(0)
        assert sink._together._handle is None
        await sink.write(make_batch([make_event("after")]))
    assert {"after", "event-0"} <= set(ids(read()))


async def test_want_of_descriptors_is_unavailable_and_passes(
    cluster: KafkaCluster, topic: str, read: Callable[[], list[Any]]
) -> None:
    spares = (0, 2, 20)  # the brokers are in this process, and take some too
    for spare in spares:
        async with opened(cluster, topic, ack_timeout=0.3) as sink:
            await sink._together.aclose()  # the next write makes a producer anew, with all that it opens
            with few_descriptors(spare), suppress(SinkUnavailable):
                await sink.write(make_batch([make_event(f"few-{spare}")]))
                assert spare
            await write_as_the_engine_does(sink, [make_event(f"later-{spare}")])
    assert {"few-20", *(f"later-{spare}" for spare in spares)} <= set(ids(read()))


@pytest.mark.parametrize("option", ["no.such.option=s3cret", "socket.timeout.ms=s3cret", "ssl.ca.location=/s3cret"])
async def test_an_option_that_librdkafka_does_not_take_stops_the_start(cluster: KafkaCluster, option: str) -> None:
    options = f"security.protocol=ssl,{option}"
    with pytest.raises(ConfigError, match=r"SINK_KAFKA_OPTIONS=\(hidden\): librdkafka does not take") as raised:
        async with opened(cluster, "events", options=options):
            pass
    assert "s3cret" not in str(raised.value)


async def test_a_wrong_password_is_told_at_once() -> None:
    """The mock knows no SASL: a broker that hangs up on a client that begins with it is what one sees of a real one."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, _refuse_password, [listener])
        brokers = (f"127.0.0.1:{listener.socket.getsockname()[1]}",)
        options = "security.protocol=SASL_PLAINTEXT,sasl.mechanism=PLAIN,sasl.username=u,sasl.password=s3cret"
        with trio.fail_after(5):
            async with open_kafka(KafkaSettings(brokers=brokers, options=options), Storage()) as sink:
                error = await unavailable(sink)
        nursery.cancel_scope.cancel()
    assert "check security.protocol, the user and the password in SINK_KAFKA_OPTIONS" in error
    assert "s3cret" not in error


async def _refuse_password(stream: trio.SocketStream) -> None:
    """Speak as much Kafka as it takes to refuse a password: ApiVersions, SaslHandshake, SaslAuthenticate."""
    async with stream:
        data = b""
        try:
            while True:
                while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
                    more = await stream.receive_some(4096)
                    if not more:
                        return
                    data += more
                size = 4 + int.from_bytes(data[:4], "big")
                request, data = data[4:size], data[size:]
                api, version = int.from_bytes(request[:2], "big"), int.from_bytes(request[2:4], "big")
                answer = request[4:8] + _answer_sasl(api, version)
                await stream.send_all(len(answer).to_bytes(4, "big") + answer)
        except trio.BrokenResourceError:
            return


def _answer_sasl(api: int, version: int) -> bytes:
    if api == 18:  # ApiVersions; of a newer version: none that we know
        apis = [(18, 0, 0), (17, 0, 1), (36, 0, 0), (3, 0, 1), (0, 0, 3)]
        table = b"".join(n.to_bytes(2, "big") for row in apis for n in row)
        return (35 if version else 0).to_bytes(2, "big") + len(apis).to_bytes(4, "big") + table
    if api == 17:  # SaslHandshake: PLAIN is fine
        return (0).to_bytes(2, "big") + (1).to_bytes(4, "big") + (5).to_bytes(2, "big") + b"PLAIN"
    words = b"Authentication failed: Invalid username or password"
    return (58).to_bytes(2, "big") + len(words).to_bytes(2, "big") + words + (0).to_bytes(4, "big")
