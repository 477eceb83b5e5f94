"""HTTPS: both lanes and HTTP/2 over TLS, and clients that break it.

The certificate is made by the ``openssl`` program, for one test session.
"""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from hermes.base.errors import ConfigError
from hermes.net.tls import open_tls_context
from tests.http_client import Client, event, get, post
from tests.integration.test_bad_input import pour, until
from tests.integration.test_http_lanes import FLOODS, OPENING, Client2
from tests.needs import lacks
from tests.observe.test_metrics import value
from tests.service import Service, open_service

Certificate = dict[str, Any]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """A self-signed certificate for localhost, as the settings that name it."""
    if shutil.which("openssl") is None:
        lacks("there is no openssl")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return {"tls_cert": str(cert), "tls_key": str(key)}


@asynccontextmanager
async def connect(service: Service, *alpn: str) -> AsyncIterator[Client]:
    """A TLS connection that offers these protocols."""
    context = ssl.create_default_context(cafile=service.settings.tls_cert)
    if alpn:
        context.set_alpn_protocols(alpn)
    raw = await trio.open_tcp_stream(service.host, service.port)
    stream = trio.SSLStream(raw, context, server_hostname="localhost", https_compatible=True)
    try:
        with trio.fail_after(10):
            await stream.do_handshake()
        yield Client(stream)
    finally:
        await trio.aclose_forcefully(stream)


class Ground:
    """The service under test; ``taken`` has the ids that the test expects in the sink beside the neighbour's."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.taken: list[str] = []


@asynccontextmanager
async def unharmed(certificate: Certificate, **settings: Any) -> AsyncIterator[Ground]:
    """A service over TLS, and the proof afterwards that nobody but the offender has noticed anything."""
    async with open_service(**certificate, **settings) as service:
        async with connect(service) as neighbour:
            ground = Ground(service)
            assert (await neighbour.ask(post(event("before")))).status == 202
            yield ground
            assert (await neighbour.ask(post(event("after")))).status == 202
        async with connect(service) as fresh:
            assert (await fresh.ask(post(event("fresh")))).status == 202
        with trio.fail_after(10):
            await service.sink.wait_stored(3 + len(ground.taken))
        assert sorted(e.id for e in service.sink.stored) == sorted(["before", "after", "fresh", *ground.taken])
    assert service.clean


async def test_both_lanes_answer_on_one_tls_connection_in_order(certificate: Certificate) -> None:
    async with unharmed(certificate) as ground, connect(ground.service, "http/1.1") as client:
        await client.send(post(event("a")), post(b"{}"), post(event("b")), get(b"/metrics"), post(event("c")))
        assert [answer.status for answer in await client.answers(5)] == [202, 400, 202, 200, 202]
        ground.taken = ["a", "b", "c"]


async def test_alpn_chooses_http_2(certificate: Certificate) -> None:
    async with unharmed(certificate) as ground, connect(ground.service, "h2", "http/1.1") as client:
        assert isinstance(client.stream, trio.SSLStream)
        assert client.stream.selected_alpn_protocol() == "h2"
        client2 = Client2(client.stream)
        assert (await client2.ask("POST", "/events", event("a"))).status == 202
        assert (await client2.ask("GET", "/ready")).json == {"status": "ready"}
        assert (await client2.ask("POST", "/events", b"{}")).status == 400
        ground.taken = ["a"]


async def test_a_large_body_and_a_body_over_the_limit_over_tls(certificate: Certificate) -> None:
    async with unharmed(certificate, max_body_bytes=2_000_000) as ground, connect(ground.service) as client:
        assert (await client.ask(post(event("big", payload={"a": "x" * 1_900_000})))).status == 202
        ground.taken = ["big"]
        # The client sends on after it is refused, as curl does; it must get to read the answer all the same.
        with suppress(trio.BrokenResourceError):
            await client.send(post(b" " * 20_000_000))
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")


@pytest.mark.parametrize(
    "data",
    [
        post(event()),
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\0" * 1000,
        b"\x16\x03\x01\xff\xff" + b"x" * 1000,
        b"\x16",
        b"",
    ],
    ids=["post", "get", "zeros", "torn-hello", "one-byte", "nothing"],
)
@pytest.mark.parametrize("end", ["stay", "half-close", "reset"])
async def test_what_is_no_tls_on_the_tls_port_ends_its_own_connection(
    certificate: Certificate, data: bytes, end: str
) -> None:
    async with unharmed(certificate, header_timeout=0.3) as ground:
        client = Client(await trio.open_tcp_stream(ground.service.host, ground.service.port))
        async with client.stream:
            await client.send(data)
            if end == "reset":
                await client.reset()
            else:
                if end == "half-close":
                    await client.send_eof()
                assert b"HTTP/" not in await client.rest()
        await until(lambda: ground.service.running.edges.edge.connections == 1)


async def test_a_tls_client_that_goes_away_in_the_middle_is_let_go(certificate: Certificate) -> None:
    async with unharmed(certificate, header_timeout=0.5, body_timeout=0.5) as ground:
        for part in (b"", b"POST /ev", post(event())[:-5], get(b"/metrics") * 20):
            for how in ("abrupt", "clean"):
                async with connect(ground.service) as client:
                    await client.send(part)
                    if how == "clean":
                        await client.stream.aclose()
        await until(lambda: ground.service.running.edges.edge.connections == 1)
        await until(lambda: value(ground.service.running.edges.metrics, "hermes_inflight_requests") == 0)


async def test_slow_requests_are_408_over_tls(certificate: Certificate) -> None:
    async with unharmed(certificate, header_timeout=0.3, body_timeout=0.3) as ground:
        for part in (b"POST /ev", post(event())[:-5]):
            async with connect(ground.service) as client:
                answer = await client.ask(part)
                assert answer.status == 408
                assert answer.headers["date"]
                assert await client.rest() == b""


async def test_a_client_that_pipelines_without_pause_over_tls_is_not_timed_out(certificate: Certificate) -> None:
    async with unharmed(certificate, header_timeout=0.3, body_timeout=0.3) as ground, connect(ground.service) as client:
        request = post(event("piped"))
        for cut in (10, len(request) - 10):
            await client.send(request[:cut])
            for _ in range(6):
                await trio.sleep(0.1)
                assert (await client.ask(request[cut:], request[:cut])).status == 202
            assert (await client.ask(request[cut:])).status == 202
        ground.taken = ["piped"] * 14


async def test_a_client_that_reads_nothing_over_tls_is_let_go(certificate: Certificate) -> None:
    async with unharmed(certificate, write_timeout=0.5) as ground:
        for request in (post(b"{}") * 100, get(b"/metrics") * 50):
            async with connect(ground.service) as client:
                with trio.fail_after(10):
                    await pour(client.stream, request)


async def test_many_answers_to_tiny_requests_over_tls_all_come(certificate: Certificate) -> None:
    """More than may lie unsent at once: what was held back is answered when there is room."""
    tiny = b"POST /events HTTP/1.1\r\nHost:\r\nContent-Length:0\r\n\r\n"
    async with unharmed(certificate) as ground, connect(ground.service) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.send, tiny * 5_000)
        assert {answer.status for answer in await client.answers(5_000)} == {400}


@pytest.mark.parametrize("lines", [[], [b"Connection: close"]], ids=["kept", "closing"])
async def test_in_block_mode_over_tls_a_request_waits_and_one_whose_client_leaves_is_never_stored(
    certificate: Certificate, lines: list[bytes]
) -> None:
    async with open_service(durability="memory", queue_size=1, backpressure_mode="block", **certificate) as service:
        waiters = service.engine.intake.admission._waiters
        service.sink.stall()
        async with connect(service) as client:
            assert (await client.ask(post(event("a")))).status == 202
        async with connect(service) as client:
            await client.send(post(event("gone"), *lines))
            await until(lambda: len(waiters) == 1)
            await client.stream.aclose()
            await until(lambda: not waiters)
        async with connect(service) as client:
            await client.send(post(event("b"), *lines))
            await until(lambda: len(waiters) == 1)
            service.sink.resume()
            assert (await client.answer()).status == 202
        await service.sink.wait_stored(2)
    assert [e.id for e in service.sink.stored] == ["a", "b"]


async def test_a_stop_over_tls_answers_what_is_in_flight_and_ends_idle_connections(certificate: Certificate) -> None:
    async with open_service(durability="memory", queue_size=2, backpressure_mode="block", **certificate) as service:
        async with connect(service) as idle, connect(service) as half, connect(service) as waits:
            service.sink.stall()
            assert (await idle.ask(post(b"[%b,%b]" % (event("a"), event("b"))))).status == 202
            await waits.send(post(event("c")))
            await half.send(post(b"{}")[:-1])
            await until(lambda: len(service.engine.intake.admission._waiters) == 1)
            await trio.sleep(0.05)
            service.begin_stop()
            assert (await waits.answer()).status == 503
            answer = await half.ask(b"}")
            assert (answer.status, answer.headers["connection"]) == (400, "close")
            assert await idle.rest() == b""
        service.sink.resume()
        assert await service.stop()
    assert [e.id for e in service.sink.stored] == ["a", "b"]


async def test_beyond_max_connections_a_tls_client_waits_until_another_leaves(certificate: Certificate) -> None:
    async with open_service(max_connections=2, **certificate) as service:
        async with connect(service) as one:
            async with connect(service) as two:
                await one.send(post(event("a"))[:-1])
                await two.send(post(event("b"))[:-1])
                late = await trio.open_tcp_stream(service.host, service.port)
                with trio.move_on_after(0.3):
                    await late.receive_some(1)
                await late.aclose()
                assert (await two.ask(b"}")).status == 202
            assert (await one.ask(b"}")).status == 202
            async with connect(service) as three:
                assert (await three.ask(post(event("c")))).status == 202
        await service.sink.wait_stored(3)


@pytest.mark.parametrize("name", ["priority", "rapid-reset", "continuation", "settings", "nonsense", "huge-frame"])
async def test_an_http_2_flood_over_tls_ends_its_own_connection_at_most(certificate: Certificate, name: str) -> None:
    async with unharmed(certificate) as ground, connect(ground.service, "h2") as client:
        with trio.move_on_after(1), suppress(trio.BrokenResourceError):
            await client.stream.send_all(OPENING + FLOODS[name]())
            await client.rest()


def test_a_certificate_that_cannot_be_used_stops_the_start_with_its_setting(
    certificate: Certificate, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("nonsense")
    key = certificate["tls_key"]
    for cert in (str(tmp_path / "missing.pem"), str(broken), str(tmp_path), key):
        with pytest.raises(ConfigError, match="TLS_CERT"):
            open_tls_context(cert, key)


def test_old_versions_of_tls_are_not_spoken(certificate: Certificate) -> None:
    context = open_tls_context(certificate["tls_cert"], certificate["tls_key"])
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
