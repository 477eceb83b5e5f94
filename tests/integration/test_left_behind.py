"""A connection that has ended leaves nothing to the garbage collector, however it ended.

The service tells the collector to look seldom, for events are in no reference cycles. What is in one stays: the bodies
of uploads that broke off took the memory of the machine, 8 MiB each.
"""

from __future__ import annotations

import gc
import types
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
import trio

from tests.http_client import Client, connect, event, get, post
from tests.integration.test_bad_input import until
from tests.integration.test_http_lanes import connect2
from tests.observe.test_metrics import value
from tests.service import Service, open_service

OURS = ("hermes", "h11", "hypercorn", "quart", "trio")
BODY = b"x" * 300_000


def upload(path: bytes, *lines: bytes, length: int = 300_001) -> bytes:
    head = b"\r\n".join([b"POST %b HTTP/1.1" % path, b"Host: localhost", b"Content-Length: %d" % length, *lines])
    return head + b"\r\n\r\n" + BODY


async def talk(service: Service, data: bytes, *, admin: bool = False, reset: bool = False) -> None:
    address = service.running.edges.admin_addresses[0] if admin else (service.host, service.port)
    async with await trio.open_tcp_stream(*address) as stream:
        client = Client(stream)
        with suppress(trio.BrokenResourceError, EOFError, trio.TooSlowError):
            await client.send(data)
            client.patience = 0.05
            await client.answer()
        if reset:
            await client.reset()


async def talk_2(service: Service, *, reset: bool) -> None:
    async with connect2(service) as client:
        number = client.protocol.get_next_available_stream_id()
        fields = [(":method", "POST"), (":path", "/events"), (":scheme", "http"), (":authority", "test")]
        client.protocol.send_headers(number, fields)
        for _ in range(4):
            client.protocol.send_data(number, BODY[:15_000])
        await client.flush()
        await trio.sleep(0.02)
        if reset:
            client.protocol.reset_stream(number)
            await client.flush()


Ending = Callable[[Service], Awaitable[None]]
ENDINGS: dict[str, Ending] = {
    "an answer, in the fast lane": lambda service: talk(service, post(event())),
    "in the middle of a head, in the fast lane": lambda service: talk(service, b"POST /ev"),
    "in the middle of a body, in the fast lane": lambda service: talk(service, upload(b"/events")),
    "an answer": lambda service: talk(service, get(b"/metrics")),
    "no such path": lambda service: talk(service, upload(b"/nothing", length=300_000)),
    "no such path on the admin address": lambda service: talk(service, get(b"/nothing"), admin=True),
    "in the middle of a body": lambda service: talk(service, upload(b"http://test/events")),
    "a reset in the middle of a body": lambda service: talk(service, upload(b"http://test/events"), reset=True),
    "a body that is refused": lambda service: talk(service, upload(b"http://test/events", b"Content-Type: a/b")),
    "in the middle of the admin's body": lambda service: talk(service, upload(b"/dead-letters/replay"), admin=True),
    "answers that nobody reads": lambda service: talk(service, get(b"/metrics") * 20),
    "in the middle of a body over HTTP/2": lambda service: talk_2(service, reset=False),
    "a stream that is reset over HTTP/2": lambda service: talk_2(service, reset=True),
}


@contextmanager
def what_the_collector_finds() -> Iterator[Counter[str]]:
    """Within, nothing is collected; after it, the objects by type that only the collector could free."""
    found: Counter[str] = Counter()
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        for thing in gc.garbage:
            name = f"{type(thing).__module__}.{type(thing).__qualname__}"
            if isinstance(thing, types.FrameType):
                name = f"{thing.f_globals.get('__name__')}.{thing.f_code.co_qualname}"
            if name.partition(".")[0] in OURS:
                found[name] += 1
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_connection_that_has_ended_is_in_no_reference_cycle(ending: str) -> None:
    async with open_service(durability="memory") as service:

        def ended() -> bool:
            return not service.running.edges.edge.connections and not value(
                service.running.edges.metrics, "hermes_inflight_requests"
            )

        await ENDINGS[ending](service)  # what is made once, at the first request
        await until(ended)
        with what_the_collector_finds() as found:
            await ENDINGS[ending](service)
            await until(ended)
            await trio.sleep(0.1)  # the control lane has connections that nobody counts
    assert not found


async def test_the_events_of_a_client_that_leaves_while_it_waits_are_given_back() -> None:
    async with open_service(durability="memory", queue_size=1, backpressure_mode="block") as service:
        service.sink.stall()
        waiters = service.engine.intake.admission._waiters
        async with connect(service) as client:
            assert (await client.ask(post(event("a")))).status == 202
        with what_the_collector_finds() as found:
            async with connect(service) as client:
                await client.send(post(event("b"), path=b"http://test/events"))
                await until(lambda: len(waiters) == 1)
            await until(lambda: not waiters)
            await trio.sleep(0.2)
        service.sink.resume()
    assert not found
