"""Clients that hold all connections there are, in whatever way: others are served all the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import h2.connection
import h2.settings
import pytest
import trio

from hermes.net.control.places import Use
from hermes.net.http import reactor, stream
from tests.http_client import Client, event, get, post
from tests.http_client import connect as connect_plainly
from tests.integration import test_tls
from tests.integration.test_bad_input import until
from tests.integration.test_http_lanes import Client2
from tests.integration.test_tls import certificate
from tests.observe.test_metrics import value
from tests.service import Service, open_service

__all__ = ["certificate"]  # a fixture

PLACES = 4

Hold = Callable[[Client], Awaitable[Any]]


async def keep_alive(client: Client) -> None:
    assert (await client.ask(get(b"/health"))).status == 200


async def stop_in_a_body(client: Client) -> None:
    await client.send(post(event(), path=b"http://test/events")[:-1])


async def end_in_a_request(client: Client) -> None:
    await keep_alive(client)
    await client.send(b"GET /heal")


async def read_nothing(client: Client) -> None:
    with trio.move_on_after(0.3):
        await client.send(get(b"/metrics") * 2000)


async def greet_in_http_2(client: Client) -> None:
    protocol = h2.connection.H2Connection()
    protocol.initiate_connection()
    await client.send(protocol.data_to_send())


async def ask_in_http_2_and_read_nothing(client: Client) -> None:
    protocol = h2.connection.H2Connection()
    protocol.initiate_connection()
    protocol.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
    protocol.send_headers(
        1, [(":method", "GET"), (":path", "/health"), (":scheme", "http"), (":authority", "test")], end_stream=True
    )
    await client.send(protocol.data_to_send())


HOLDS = [
    keep_alive,
    stop_in_a_body,
    end_in_a_request,
    read_nothing,
    greet_in_http_2,
    ask_in_http_2_and_read_nothing,
]


async def probe(connect: Callable[..., AbstractAsyncContextManager[Client]], service: Service) -> None:
    for path in (b"/health", b"/ready", b"/metrics"):
        async with connect(service) as client:
            assert (await client.ask(get(path))).status == 200
    async with connect(service) as client:
        assert (await Client2(client.stream).ask("POST", "/events", event("over HTTP/2"))).status == 202


@pytest.mark.parametrize("hold", HOLDS)
async def test_clients_that_hold_all_places_of_the_control_lane_keep_no_probe_out(hold: Hold) -> None:
    async with open_service() as service, AsyncExitStack() as held:
        places = service.running.edges.edge._control.places
        places.most = PLACES
        for _ in range(PLACES + 2):
            await hold(await held.enter_async_context(connect_plainly(service)))
        await until(lambda: len(places) == PLACES and not places._by_use[Use.BUSY])
        await probe(connect_plainly, service)
        assert len(places) <= PLACES
        assert places.evicted > 2
        assert not places.refused


@pytest.mark.parametrize("hold", [keep_alive, stop_in_a_body])
async def test_clients_that_hold_all_places_over_tls_keep_no_probe_out(
    hold: Hold, certificate: test_tls.Certificate
) -> None:
    async with open_service(**certificate) as service, AsyncExitStack() as held:
        service.running.edges.edge._control.places.most = PLACES
        for _ in range(PLACES + 2):
            await hold(await held.enter_async_context(test_tls.connect(service)))
        await probe(test_tls.connect, service)
        assert len(service.running.edges.edge._control.places) <= PLACES


async def test_a_client_whose_window_stays_shut_is_given_up() -> None:
    async with open_service(write_timeout=0.3) as service, connect_plainly(service) as client:
        places = service.running.edges.edge._control.places
        await ask_in_http_2_and_read_nothing(client)
        await until(lambda: len(places) == 1)
        await until(lambda: not len(places))


async def test_where_every_place_is_busy_a_newcomer_is_told_to_come_again() -> None:
    async with open_service(durability="memory", queue_size=1, backpressure_mode="block") as service:
        service.sink.stall()
        service.running.edges.edge._control.places.most = PLACES
        waiters = service.engine.intake.admission._waiters
        async with AsyncExitStack() as held:
            clients = [await held.enter_async_context(connect_plainly(service)) for _ in range(PLACES + 1)]
            assert (await clients.pop().ask(post(event("first")))).status == 202
            for client in clients:
                await client.send(post(event("waits"), path=b"http://test/events"))
            await until(lambda: len(waiters) == PLACES)
            async with connect_plainly(service) as newcomer:
                answer = await newcomer.ask(get(b"/health"))
                assert (answer.status, answer.headers["connection"]) == (503, "close")
                assert answer.headers["retry-after"]
            service.sink.resume()
            for client in clients:
                assert (await client.answer()).status == 202


@pytest.mark.parametrize("queue_bytes", [2**20, 2**16])
async def test_bodies_without_a_key_in_the_control_lane_keep_nobody_out_who_has_one(queue_bytes: int) -> None:
    largest = 64 * 2**10
    async with open_service(api_keys=["secret"], max_body_bytes=largest, queue_bytes=queue_bytes) as service:
        budget = service.running.edges.edge._lane.body_budget
        body = post(b" " * largest, path=b"//v1/batch")[:-1]
        async with AsyncExitStack() as held:
            for _ in range(20):
                client = await held.enter_async_context(connect_plainly(service))
                await client.send(body)
            await until(lambda: budget.keyless.used + largest > budget.keyless._limit)
            async with connect_plainly(service) as keyed:
                large = event("large", payload={"a": "a" * (largest // 2)})
                assert (await keyed.ask(post(large, b"X-API-Key: secret"))).status == 202
            assert 0 < budget.used == budget.keyless.used
        await until(lambda: not budget.used)


async def silence(_client: Client) -> None:
    await trio.lowlevel.checkpoint()


async def post_one(client: Client) -> None:
    assert (await client.ask(post(event("held")))).status == 202


@pytest.mark.parametrize("hold", [silence, post_one])
@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
async def test_beyond_max_connections_the_longest_idle_give_way(
    monkeypatch: pytest.MonkeyPatch, hold: Hold, secure: bool, certificate: test_tls.Certificate
) -> None:
    for module in (reactor, stream):
        monkeypatch.setattr(module, "LEAST_IDLE_SECONDS", 0.1)
    monkeypatch.setattr(reactor, "_SWEEP_SECONDS", 0.1)
    connect: Any = test_tls.connect if secure else connect_plainly
    async with open_service(max_connections=5, **(certificate if secure else {})) as service, AsyncExitStack() as held:
        clients = [await held.enter_async_context(connect(service)) for _ in range(5)]
        for client in clients:
            await hold(client)
        for _ in range(2):
            async with connect(service) as newcomer:
                assert (await newcomer.ask(post(event("new")))).status == 202
        assert service.running.edges.edge.connections <= 5
        assert value(service.running.edges.metrics, "hermes_connections_evicted_total") in {
            1,
            2,
        }  # the first newcomer has left


@pytest.mark.parametrize("hold", [keep_alive, greet_in_http_2])
async def test_connections_that_were_handed_over_under_tls_give_way_before_the_fast_lane_is_full(
    hold: Hold, certificate: test_tls.Certificate
) -> None:
    async with open_service(max_connections=5, **certificate) as service, AsyncExitStack() as held:
        for _ in range(5):
            await hold(await held.enter_async_context(test_tls.connect(service)))
        for _ in range(2):
            async with test_tls.connect(service) as newcomer:
                assert (await newcomer.ask(post(event("new")))).status == 202
        assert value(service.running.edges.metrics, "hermes_connections_evicted_total") == 1


async def test_silent_connections_keep_no_operator_from_the_admin_address() -> None:
    async with open_service() as service, AsyncExitStack() as held:
        address = service.running.edges.admin_addresses[0]
        for number in range(300):
            other = await held.enter_async_context(await trio.open_tcp_stream(*address))
            if number % 2:
                await other.send_all(get(b"/health"))
        async with await trio.open_tcp_stream(*address) as operator:
            asked = Client(operator, patience=20).ask(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await asked).status == 200
