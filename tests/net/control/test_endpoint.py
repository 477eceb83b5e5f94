"""Endpoints that a part brings: served on their lane, guarded as they declare, and in the document."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable

import pytest
from quart_trio import QuartTrio

from hermes.net.control.app import Site, make_app
from hermes.net.control.endpoint import Answer, Endpoint, KeyCheck, Request, Streaming
from hermes.net.control.openapi.operation import JSON, Content, Operation, Tag
from hermes.net.control.openapi.operation import Answer as Described
from hermes.net.control.openapi.pages import documented
from hermes.net.http.head import Route
from hermes.net.http.keys import Keys
from hermes.net.http.lane import BodyBudget
from hermes.net.http.response import Response
from tests.net.control.kit import BASE, FRAME

JOBS = Tag("Jobs", "Work to do.")


def describe() -> Iterable[Operation]:
    yield Operation(JOBS, "A job", answers=(Described(200, "It.", (Content(JSON, dict[str, int]),)),))


async def show(request: Request) -> Answer:
    return Response(200, json.dumps({"number": request.parameters["number"]}).encode())


async def echo(request: Request) -> Answer:
    return Response(200, b"".join([part async for part in request.body]))


class Endless(AsyncIterator[bytes]):
    async def __aenter__(self) -> Endless:
        raise AssertionError("it was entered for HEAD")

    async def __aexit__(self, *_: object) -> None:
        pass

    async def __anext__(self) -> bytes:
        raise NotImplementedError


async def stream(_request: Request) -> Answer:
    return Streaming("text/event-stream", Endless())


def app_of(*endpoints: Endpoint, keys: Keys | None = None) -> QuartTrio:
    served = documented("HTTP_ADDR", "1", endpoints, keyed=keys is not None)
    return make_app(Site(FRAME, served, BodyBudget(2**20), keys or Keys()))


async def test_parameters_of_the_path_have_the_kind_that_is_declared() -> None:
    client = app_of(Endpoint("GET", "/jobs/{number:int}", show, describe)).test_client()
    assert await (await client.get("/jobs/7")).get_json() == {"number": 7}
    assert (await client.get("/jobs/seven")).status_code == 404
    document = await (await client.get(f"{BASE}/openapi.json")).get_json()
    assert document["paths"]["/jobs/{number}"]["get"]["summary"] == "A job"
    assert {"name": "Jobs", "description": "Work to do."} in document["tags"]


@pytest.mark.parametrize(("key", "status"), [("none", 200), ("before", 401), ("handler", 200)])
async def test_the_app_asks_for_a_key_where_the_endpoint_says_so(key: KeyCheck, status: int) -> None:
    app = app_of(Endpoint("POST", "/echo", echo, describe, key=key), keys=Keys(["secret"]))
    client = app.test_client()
    assert (await client.post("/echo", data=b"1")).status_code == status
    known = await client.post("/echo", data=b"2", headers={"X-API-Key": "secret"})
    assert (known.status_code, await known.get_data()) == (200, b"2")
    document = await (await client.get(f"{BASE}/openapi.json")).get_json()
    assert ("security" in document["paths"]["/echo"]["post"]) == (key != "none")


async def test_a_stream_is_not_begun_for_head() -> None:
    answer = await app_of(Endpoint("GET", "/live", stream, describe)).test_client().head("/live")
    assert (answer.status_code, answer.content_type) == (200, "text/event-stream")


async def test_a_data_route_of_a_part_is_served_here_too_and_found_with_slashes_too_many() -> None:
    route = Route("/jobs", lambda _head: None, lambda _head, body: Response(202, body), lambda _head: b"", 10)
    endpoint = Endpoint("POST", "/jobs", route, describe)
    assert endpoint.lane == "fast"
    client = app_of(endpoint).test_client()
    for path in ("/jobs", "//jobs/"):
        answer = await client.post(path, data=b"{}")
        assert (answer.status_code, await answer.get_data()) == (202, b"{}")
    # A signature is made over the bytes that were sent, so nothing undoes a content coding on the way.
    coded = await client.post("/jobs", data=b"\x1f\x8bsent", headers={"Content-Encoding": "gzip"})
    assert await coded.get_data() == b"\x1f\x8bsent"
    assert (await client.post("/jobs", data=b"x" * 11)).status_code == 413
    assert (await client.options("/jobs")).headers["Allow"] == "POST, OPTIONS"
