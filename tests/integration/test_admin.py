"""The admin address of a running service: apart from the one where events come in, and closed to whom it is not for."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from hermes.base.errors import ConfigError
from hermes.config import Address
from tests.integration.program import Start
from tests.service import open_service

ADMIN_PATHS = ("/dead-letters", "/dead-letters/1", "/dead-letters/replay", "/debug/accounting", "/debug/pprof/")


async def test_nothing_of_the_admin_address_is_served_where_events_come_in() -> None:
    async with open_service() as service, httpx.AsyncClient(base_url=service.url) as client:
        for path in ADMIN_PATHS:
            for method in ("GET", "POST", "DELETE"):
                assert (await client.request(method, path)).status_code == 404, path


async def test_no_event_comes_in_at_the_admin_address() -> None:
    async with open_service() as service, httpx.AsyncClient(base_url=service.admin_url) as client:
        assert (await client.post("/events", json={})).status_code == 404
        assert service.accepted == 0


async def test_debug_endpoints_are_on_the_address_of_events_where_that_is_asked_for() -> None:
    async with open_service(debug_endpoints=True) as service, httpx.AsyncClient(base_url=service.url) as client:
        assert (await client.get("/debug/accounting")).json()["accepted"] == 0
        assert (await client.get("/debug/pprof/tasks")).status_code == 200
        assert (await client.get("/dead-letters")).status_code == 404


async def test_off_is_nowhere() -> None:
    async with open_service(admin_addr=None) as service, httpx.AsyncClient(base_url=service.url) as client:
        assert service.running.edges.admin_addresses == ()
        assert (await client.get("/dead-letters")).status_code == 404


async def test_the_keys_of_the_two_addresses_are_apart() -> None:
    keys: dict[str, Any] = {"api_keys": ("ingest",), "admin_keys": ("admin", "second")}
    async with open_service(**keys) as service, httpx.AsyncClient() as client:
        for key, expected in (("ingest", 401), ("admin", 200), ("second", 200), ("x", 401), ("Admin", 401)):
            answer = await client.get(f"{service.admin_url}/dead-letters", headers={"Authorization": f"Bearer {key}"})
            assert answer.status_code == expected, key
        answer = await client.post(f"{service.url}/events", json={}, headers={"X-API-Key": "admin"})
        assert answer.status_code == 401


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8081", "localhost.evil.example", "", "[::1", "a,b"])
async def test_a_name_that_somebody_lets_point_here_is_refused(host: str) -> None:
    async with open_service() as service, httpx.AsyncClient() as client:
        answer = await client.get(f"{service.admin_url}/dead-letters", headers={"Host": host})
        assert answer.status_code in {400, 421}
        if answer.status_code == 421:
            assert "ADMIN_KEYS" in answer.json()["detail"]


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.0.0.1:1", "[::1]:1", "hermes.localhost"])
async def test_names_of_this_machine_pass(host: str) -> None:
    async with open_service() as service, httpx.AsyncClient() as client:
        answer = await client.get(f"{service.admin_url}/dead-letters", headers={"Host": host})
        assert answer.status_code == 200


IMAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
LINK = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
PAGES = ("/", "/app.js", "/docs")


@pytest.mark.parametrize("keys", [(), ("admin",)], ids=["open", "keyed"])
async def test_a_page_of_another_origin_reaches_no_route_by_any_method(keys: tuple[str, ...]) -> None:
    async with open_service(admin_keys=keys) as service, httpx.AsyncClient(base_url=service.admin_url) as client:
        if keys:
            client.headers["X-API-Key"] = keys[0]
        paths = [path.replace("{number}", "1") for path in (await client.get("/openapi.json")).json()["paths"]]
        assert {"/status", "/live", "/tap", "/dead-letters", "/debug/pprof/heap", "/debug/accounting"} <= {*paths}
        for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"}, IMAGE):
            for path in (*paths, *PAGES):
                for method in ("GET", "HEAD", "POST", "DELETE", "OPTIONS"):
                    answer = await client.request(method, path, headers=headers)
                    assert answer.status_code == 403, (method, path, headers)
        for path in PAGES:
            assert (await client.get(path, headers=LINK)).status_code == 200
        for path in ("/status", "/live", "/debug/pprof/profile", "/dead-letters"):
            assert (await client.get(path, headers=LINK)).status_code == 403
        for headers in ({"Origin": service.admin_url}, {"Sec-Fetch-Site": "same-origin"}, {}):
            assert (await client.delete("/dead-letters?all=true", headers=headers)).status_code == 200, headers


async def test_a_page_of_another_origin_reaches_no_debugging_on_the_address_of_events() -> None:
    async with open_service(debug_endpoints=True) as service, httpx.AsyncClient(base_url=service.url) as client:
        for path in ("/debug/accounting", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile"):
            for headers in (IMAGE, LINK, {"Origin": "http://evil.example"}, {"Referer": "http://evil.example/"}):
                assert (await client.get(path, headers=headers)).status_code == 403, (path, headers)
        assert (await client.get("/health", headers=IMAGE)).status_code == 200


def test_an_address_that_others_reach_wants_keys(start: Start) -> None:
    program = start(ADMIN_ADDR=":8081")
    assert program.wait() == 2
    assert program.log == (
        "hermes: ADMIN_ADDR=':8081': set ADMIN_KEYS, for others can reach it, or listen on 127.0.0.1\n"
    )


def test_an_admin_address_in_use_stops_the_start_with_its_name(start: Start) -> None:
    first = start(SINKS="null", DURABILITY="memory", LOG_FORMAT="json")
    taken = first.admin_url.removeprefix("http://")
    second = start(SINKS="null", DURABILITY="memory", ADMIN_ADDR=taken)
    assert second.wait() == 2
    assert second.log == (
        f"hermes: ADMIN_ADDR='{taken}': cannot listen there: Address already in use; "
        "stop what listens there, or choose another port\n"
    )
    assert first.stop() == 0


async def test_an_admin_address_in_use_leaves_no_socket_of_the_other_address_behind() -> None:
    before = listening_ports()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = Address("127.0.0.1", taken.getsockname()[1])
        with pytest.RaisesGroup(pytest.RaisesExc(ConfigError, match="^ADMIN_ADDR="), flatten_subgroups=True):
            async with open_service(admin_addr=address):
                raise AssertionError("it listens at an address in use")
        assert listening_ports() - before == {address.port}


def listening_ports() -> set[int]:
    """The TCP ports on which this process listens, from what the kernel says of its descriptors."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            if not str(descriptor.readlink()).startswith("socket:"):
                continue  # a copy of it would stay open, and a child that waits for its end of a pipe would wait on
            copy = os.dup(int(descriptor.name))
        except OSError:
            continue  # the descriptor of this very listing
        with socket.socket(fileno=copy) as sock:
            if sock.family in {socket.AF_INET, socket.AF_INET6} and sock.getsockopt(
                socket.SOL_SOCKET, socket.SO_ACCEPTCONN
            ):
                found.add(sock.getsockname()[1])
    return found
