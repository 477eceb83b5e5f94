"""Heads that no client should send, over both addresses and both versions of HTTP: answered, and never with a 500."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import product

import h2.config
import h2.connection
import pytest
import structlog.testing
import trio

from tests.http_client import Client
from tests.integration.test_http_lanes import Client2
from tests.service import open_service

Address = tuple[str, int]

HEADERS = b"""Accept Accept-Charset Accept-Encoding Accept-Language Access-Control-Request-Headers Authorization
Cache-Control Connection Content-Encoding Content-Length Content-Type Cookie Date Expect Forwarded Hermes-Ack Host
HTTP2-Settings If-Match If-Modified-Since If-None-Match If-Range Origin Range Referer Sec-Fetch-Site Sec-WebSocket-Key
TE Traceparent Transfer-Encoding Upgrade X-API-Key X-Forwarded-For X-Forwarded-Host X-Request-Id""".split()
VALUES = [
    b"",
    b'"',
    b",;=",
    b"a/b; version=abc",
    b"text/plain; version=abc",
    b"text/plain; version=2.x; escaping=odd",
    b"application/openmetrics-text; version=abc",
    b"application/openmetrics-text; version=1.0.0x, text/html;q=nan",
    b"application/openmetrics-text; version=\xff",
    b"*/*;q=1e999",
    b"multipart/form-data; boundary=",
    b"text/plain; charset=nope",
    b"x; a*=nope'x'%ff",
    b"\xff\xe9",
    b"-1",
    b"9" * 5000,
    b"a" * 5000,
    b"a..b",
    b"[::1",
    b"a:b:c",
    b"bytes=a-",
    b"Thu, 99 Foo 20200",
    b"Basic /////w==",
    b"00-zz-zz-zz",
    b"keep-alive, Upgrade",
    b"websocket",
    b"h2c",
    b"gzip, gzip",
]
PATHS = {0: [b"/", b"/metrics"], 1: [b"/", b"/dead-letters"]}
READ_EVERYWHERE = {b"Accept", b"Host"}
FRAMING = {b"Connection", b"Content-Length", b"Expect", b"HTTP2-Settings", b"Transfer-Encoding", b"Upgrade"}

METHODS = [b"GET", b"POST", b"HEAD", b"OPTIONS", b"CONNECT", b"DELETE", b"TRACE", b"ODD"]
TARGETS = [
    b"*",
    b"//",
    b"//[",
    b"/%ff%00%zz",
    b"/..%2f..",
    b"/?%ff=%ff&=%00",
    b"/metrics?#",
    b"?",
    b"#",
    b"://",
    b"http:",
    b"http://",
    b"http://[::1/x",
    b"http://[bad]/",
    b"http://%5Bbad/",
    b"http://%E2%84%80/",
    b"http://a:99999/",
    b"http://a:x/",
    b"http://a@b:c@d/",
    b"a:99999",
    b"[::1",
    b":80",
    b"mailto:x",
    b"/dead-letters/" + b"9" * 5000,
    b"/dead-letters?since=1e400&after=%d9%a1",
    b"/dead-letters?since=" + b"9" * 5000 + b"d",
    b"/dead-letters?sink=%ed%a0%80",
    b"/tap?sample=nan&user=%ff",
    b"/debug/pprof/profile?seconds=nan",
]


@asynccontextmanager
async def both_addresses() -> AsyncIterator[list[Address]]:
    with structlog.testing.capture_logs() as lines:
        async with open_service(durability="memory", debug_endpoints=True, body_timeout=0.2) as service:
            yield [(service.host, service.port), *service.running.edges.admin_addresses]
    assert not [line for line in lines if line["log_level"] == "error"]


def heads(place: int) -> Iterator[tuple[bytes, bool]]:
    """Requests, and whether an answer ends as usual and another request may follow on the connection."""
    for path, name, (number, value) in product(PATHS[place], HEADERS, enumerate(VALUES)):
        # The rarer a header is read, the fewer values it gets: each address takes half of them.
        if name in READ_EVERYWHERE or (path == PATHS[place][0] and number % 2 == place):
            host = b"" if name == b"Host" else b"Host: localhost\r\n"
            yield b"GET %b HTTP/1.1\r\n%b%b: %b\r\n\r\n" % (path, host, name, value), name not in FRAMING
    for method, target in product(METHODS, TARGETS):
        head = b"%b %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n" % (method, target)
        yield head, method not in {b"HEAD", b"CONNECT"}


@asynccontextmanager
async def connected(address: Address) -> AsyncIterator[Client]:
    async with await trio.open_tcp_stream(*address) as stream:
        yield Client(stream)


async def status_alone(address: Address, request: bytes) -> int:
    """The status of a request on a connection of its own, on which the client then sends no more."""
    async with connected(address) as client:
        await client.send(request)
        await client.send_eof()
        answer = await client.rest()
    assert answer, request
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize("place", [0, 1], ids=["events", "admin"])
async def test_no_head_is_answered_with_a_500_or_with_silence(place: int) -> None:
    async with both_addresses() as addresses:
        waiting = [request for request, usual in heads(place) if usual]
        while waiting:
            async with connected(addresses[place]) as client:
                asked = 0
                while waiting:
                    try:
                        status = (await client.ask(waiting[-1])).status
                    except (EOFError, trio.BrokenResourceError):
                        assert asked, waiting[-1]
                        break
                    assert status < 500 or status == 503, waiting[-1][:200]
                    asked += 1
                    waiting.pop()
        for request in [request for request, usual in heads(place) if not usual]:
            status = await status_alone(addresses[place], request)
            assert status < 500 or status == 503, request[:200]


@pytest.mark.parametrize(
    ("fields", "detail"),
    [
        ({":path": b"/?a=\xff"}, "the query is malformed"),
        ({":path": b"http://[::1/x"}, "the request target is malformed"),
        ({":authority": b"a..b"}, "the Host header is malformed"),
        ({":authority": b"a" * 64}, "the Host header is malformed"),
        ({":authority": b"\xff"}, "the Host header is malformed"),
    ],
)
async def test_what_no_framework_could_read_is_a_400_over_http_2_and_the_connection_goes_on(
    fields: dict[str, bytes], detail: str
) -> None:
    usual = {":method": b"GET", ":path": b"/health", ":scheme": b"http", ":authority": b"localhost"}
    async with both_addresses() as addresses, connected(addresses[0]) as plain:
        client = Client2(plain.stream)
        # A client that may send what HTTP/2 does not allow.
        config = h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False)
        client.protocol = h2.connection.H2Connection(config)
        client.protocol.initiate_connection()
        number = client.protocol.get_next_available_stream_id()
        client.protocol.send_headers(number, [(k.encode(), v) for k, v in (usual | fields).items()], end_stream=True)
        await client.flush()
        answer = await client.answer(number)
        assert (await client.ask("GET", "/health")).status == 200
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert detail in answer.json["detail"]
