"""Request targets that no library would send: a 400 that says so, never a 500, over HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import h2.config
import h2.connection
import pytest
import trio

from tests.http_client import connect, get
from tests.integration.test_http_lanes import connect2
from tests.service import open_service

# The last is well formed, and not once Hypercorn has decoded it.
BAD = ["http://[bad/", "http://[/events", "http://a:b/", "http://%5Bbad/"]


@pytest.mark.parametrize("method", [b"GET", b"POST"])
@pytest.mark.parametrize("target", BAD)
async def test_a_bad_target_is_a_400_over_http_1(method: bytes, target: str) -> None:
    async with open_service() as service:
        async with connect(service) as client:
            answer = await client.ask(
                b"%b %b HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n" % (method, target.encode())
            )
        async with connect(service) as client:
            assert (await client.ask(get(b"/health"))).status == 200
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert "the request target is malformed" in answer.json["detail"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize("target", [*BAD, "?a=b", "events"])
async def test_a_bad_target_is_a_400_over_http_2_and_the_connection_goes_on(target: str) -> None:
    async with open_service() as service, connect2(service) as client:
        # A client that may send what HTTP/2 does not allow.
        config = h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False)
        client.protocol = h2.connection.H2Connection(config)
        client.protocol.initiate_connection()
        answer = await client.ask("GET", target)
        assert (await client.ask("GET", "/health")).status == 200
    assert answer.status == 400
    assert answer.headers["content-type"] == "application/problem+json"
    assert "the request target is malformed" in answer.json["detail"]
    assert answer.headers["x-request-id"]


@pytest.mark.parametrize(("method", "target"), [("GÉT", "/health"), ("GET", "/hé"), ("POST", "/events?é"), ("É", "/É")])
async def test_what_is_not_ascii_over_http_2_costs_its_own_connection_at_most(method: str, target: str) -> None:
    """Hypercorn decodes method and path as ASCII before any of our code, and its error ends that connection.

    A query gets as far as our guard, which answers 400.
    """
    async with open_service() as service, connect2(service) as neighbour, connect2(service) as client:
        assert (await neighbour.ask("GET", "/health")).status == 200
        config = h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False)
        client.protocol = h2.connection.H2Connection(config)
        client.protocol.initiate_connection()
        try:
            with trio.fail_after(10):
                answer = await client.ask(method, target)
        except EOFError:
            assert "?" not in target
        else:
            assert answer.status == 400
            assert (await client.ask("GET", "/health")).status == 200
        assert (await neighbour.ask("GET", "/health")).status == 200
        async with connect2(service) as fresh:
            assert (await fresh.ask("GET", "/health")).status == 200
    assert service.clean


async def test_a_bad_target_of_a_head_request_is_refused_without_a_body() -> None:
    async with open_service() as service, connect(service) as client:
        await client.send(b"HEAD http://%5Bbad/ HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("host", [b"[bad", b"a:b", b"[", b"a b"])
async def test_a_bad_host_is_never_a_500(host: bytes) -> None:
    async with open_service() as service, connect(service) as client:
        answer = await client.ask(b"GET /health HTTP/1.1\r\nHost: %b\r\n\r\n" % host)
    assert answer.status in {200, 400}


async def test_an_absolute_target_that_can_be_read_is_answered_by_its_path() -> None:
    async with open_service() as service, connect(service) as client:
        assert (await client.ask(get(b"http://test:80/health"))).json == {"status": "ok"}
        assert (await client.ask(get(b"http://[::1]/health"))).json == {"status": "ok"}
