"""Whatever bytes a client sends: no exception escapes its connection, and other clients are served."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes.broker.wire import hermesmq_pb2 as pb
from tests.broker.client import frame, open_served

TEXT = st.sampled_from(["", "t", "g", "\0", "x" * 300, "auto"])
NUMBER = st.sampled_from([0, 1, 2, 7, 8, 1024, 2**31, 2**32 - 1])
LONG = st.one_of(NUMBER, st.sampled_from([2**63, 2**64 - 1]))


def messages() -> Iterator[st.SearchStrategy[pb.Request]]:
    """A request of each kind, with values at the edges of their types."""
    topic, group = {"topic": TEXT}, {"topic": TEXT, "group": TEXT}
    fields: dict[str, tuple[Any, dict[str, Any]]] = {
        "produce": (
            pb.Produce,
            {
                **topic,
                "payload": st.binary(max_size=20),
                "priority": NUMBER,
                "content_type": NUMBER,
                "producer_id": TEXT,
                "seq": LONG,
            },
        ),
        "poll": (
            pb.Poll,
            {
                **group,
                "max": NUMBER,
                "visibility_timeout_ms": LONG,
                "ack_mode": TEXT,
                "wait_ms": st.sampled_from([0, 1, 500]),
            },
        ),
        "ack": (pb.Ack, {**group, "lease_id": LONG}),
        "nack": (pb.Nack, {**group, "lease_id": LONG}),
        "commit": (pb.Commit, {**group, "offset": LONG}),
        "create_topic": (pb.CreateTopic, topic),
        "delete_topic": (pb.DeleteTopic, topic),
        "stats": (pb.Stats, {}),
        "bootstrap": (pb.Bootstrap, {}),
        "set_rate_limit": (pb.SetRateLimit, {**topic, "rate_per_sec": st.floats(), "burst": NUMBER}),
        "set_retention": (pb.SetRetention, {**topic, "max_messages": LONG, "max_age_ms": LONG}),
        "subscribe": (pb.Subscribe, {**group, "prefetch": NUMBER, "visibility_timeout_ms": LONG, "ack_mode": TEXT}),
        "auth": (pb.Auth, {"token": TEXT}),
    }
    for name, (kind, values) in fields.items():
        yield st.builds(kind, **values).map(partial(as_request, name))


def as_request(name: str, member: Any) -> pb.Request:
    return pb.Request(**{name: member})


GOOD = st.one_of(*messages()).map(frame)
BAD = st.one_of(
    st.binary(max_size=30),
    st.binary(max_size=30).map(lambda body: struct.pack(">I", len(body)) + body),
    st.integers(0, 2**32 - 1).map(lambda size: struct.pack(">I", size)),
)


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A good frame of which a byte is another one."""
    data = bytearray(draw(GOOD))
    data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@settings(max_examples=int(os.environ.get("HERMES_TEST_FRAMES", "300")))
@given(st.lists(st.one_of(GOOD, GOOD, changed(), BAD), max_size=12), st.lists(st.integers(1, 50), max_size=6))
def test_no_bytes_end_more_than_their_connection(pieces: list[bytes], cuts: list[int]) -> None:
    async def run() -> None:
        async with open_served() as served:
            hostile, stream = served.connect(), b"".join(pieces)
            async with trio.open_nursery() as nursery:

                async def read() -> None:
                    while await hostile.stream.receive_some():
                        pass

                nursery.start_soon(read)
                # The broker may have closed the connection already.
                with suppress(trio.BrokenResourceError):
                    for size in cuts:
                        await hostile.send_bytes(stream[:size])
                        await trio.testing.wait_all_tasks_blocked()
                        stream = stream[size:]
                    await hostile.send_bytes(stream)
                await trio.sleep(1)
                nursery.cancel_scope.cancel()
            await hostile.stream.aclose()
            await trio.sleep(1)
            honest = served.connect()
            await honest.ask(delete_topic=pb.DeleteTopic(topic="honest"))
            assert await honest.produce("honest", b"x") == 0
            assert await honest.offsets("honest") == [0]
            assert len(served.node.sequencer.demand) == 0

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
