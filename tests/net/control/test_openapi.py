"""The OpenAPI documents: each route declared, each declaration served, and what they say is what the code does."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from html import unescape
from typing import Any

import jsonschema
import pytest
import schemathesis
from quart_trio import QuartTrio

from hermes.config import Address
from hermes.events.protocols.routes import make_endpoints, make_routes
from hermes.events.routes import aggregates_endpoint
from hermes.events.side_routes import endpoints_beside
from hermes.net.control.app import Site, make_app
from hermes.net.control.dashboard import ASSETS as SHELL
from hermes.net.control.debugging import debug_endpoints
from hermes.net.control.endpoint import Answer, Endpoint, Request
from hermes.net.control.openapi.landing import render_landing
from hermes.net.control.openapi.operation import JSON, SERVICE, Content, Example, Operation
from hermes.net.control.openapi.pages import ASSETS, documented
from hermes.net.control.openapi.schemas import make_schemas
from hermes.net.control.service import health_endpoint, index_endpoint, service_endpoints
from hermes.net.http.keys import Keys
from hermes.net.http.lane import BodyBudget
from hermes.net.http.response import Response
from hermes.net.http.work import Workshop
from hermes.net.settings import AdminSettings
from hermes.observe.service_status import ServiceStatus
from tests.net.control.kit import BASE, FRAME, PANELS, admin_app, admin_endpoints, no_debug
from tests.net.http.kit import FakeIntake

TYPES = ("song_played", "ad_clicked")
IMPLIED = {"HEAD", "OPTIONS"}
PARTS = set(ASSETS) | set(SHELL) | {panel.path for panel in PANELS}
"""Parts of pages, which are no operations."""


def http_endpoints(
    *, debug: bool = True, keys: tuple[str, ...] = (), event_types: tuple[str, ...] = TYPES
) -> tuple[Endpoint, ...]:
    routes = make_routes(
        FakeIntake(),
        Counter(),
        workshop=Workshop(BodyBudget(2**20)),
        event_types=event_types,
        max_body_bytes=2**20,
        keys=Keys(keys),
    )
    own = (
        *make_endpoints(routes, event_types),
        *endpoints_beside({route.name: route for route in routes}),
        health_endpoint("HTTP_ADDR"),
        *service_endpoints(lambda: None, lambda _accept: (b"", "text/plain")),
        aggregates_endpoint(dict),
        *(debug_endpoints("HTTP_ADDR", dict, no_debug) if debug else ()),
    )
    index = index_endpoint("1.2.3", AdminSettings().admin_addr, own, keyed=bool(keys))
    return documented("HTTP_ADDR", "1.2.3", (*own, index), keyed=bool(keys))


def ingest_app(*, debug: bool = True, keys: tuple[str, ...] = (), event_types: tuple[str, ...] = TYPES) -> QuartTrio:
    served = http_endpoints(debug=debug, keys=keys, event_types=event_types)
    return make_app(Site(FRAME, served, BodyBudget(2**20), Keys(keys)))


async def document_of(app: QuartTrio) -> dict[str, Any]:
    response = await app.test_client().get(f"{BASE}/openapi.json")
    assert response.status_code == 200
    document: dict[str, Any] = json.loads(await response.get_data())
    return document


BOTH = pytest.mark.parametrize(
    ("app", "endpoints"),
    [(ingest_app(), http_endpoints()), (admin_app(), admin_endpoints())],
    ids=["ingest", "admin"],
)


@BOTH
def test_every_endpoint_is_served_and_described(app: QuartTrio, endpoints: Sequence[Endpoint]) -> None:
    served = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", str(rule)))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - IMPLIED
    }
    own = [each for each in endpoints if each.method not in IMPLIED]
    assert {(each.method, each.plain_path) for each in own} == served
    for endpoint in own:
        described = [operation.path or endpoint.plain_path for operation in endpoint.describe()]
        assert bool(described) == (endpoint.path not in PARTS), endpoint.path


@BOTH
async def test_the_document_is_valid_openapi_3_1(app: QuartTrio, endpoints: Sequence[Endpoint]) -> None:
    document = await document_of(app)
    assert document["openapi"] == "3.1.0"
    schemathesis.openapi.from_dict(document).validate()
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    ids = [operation["operationId"] for _, operation in operations(document)]
    assert len(ids) == len(set(ids)) == sum(len([*each.describe()]) for each in endpoints)


def operations(document: dict[str, Any]) -> Iterator[tuple[tuple[str, str], dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield (method.upper(), path), operation


async def test_debugging_is_in_the_document_where_it_is_served() -> None:
    without = (await document_of(ingest_app(debug=False)))["paths"]
    assert not [path for path in without if path.startswith("/debug")]
    assert "/debug/pprof/heap" in (await document_of(ingest_app()))["paths"]


@pytest.mark.parametrize(
    ("event_types", "expected"),
    [
        (TYPES, {"enum": ["ad_clicked", "song_played"]}),
        (("*",), {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,64}$"}),
    ],
)
async def test_the_schema_of_an_event_takes_the_types_that_are_taken(
    event_types: tuple[str, ...], expected: dict[str, Any]
) -> None:
    document = await document_of(ingest_app(event_types=event_types))
    assert document["components"]["schemas"]["Event"]["properties"]["type"] == expected


def test_a_docstring_beside_a_member_is_its_description() -> None:
    (schema,), components = make_schemas([ServiceStatus])
    assert schema == {"$ref": "#/components/schemas/ServiceStatus"}
    members = components["ServiceStatus"]["properties"]
    assert members["memory"]["description"] == "Resident bytes of the process, where the system tells."
    assert "description" not in members["version"]


@pytest.mark.parametrize(("keys", "free"), [((), True), (("secret",), False)])
async def test_a_key_is_wanted_in_the_document_where_one_is_configured(keys: tuple[str, ...], free: bool) -> None:
    for app, path, method in (
        (ingest_app(keys=keys), "/events", "post"),
        (admin_app(keys=Keys(keys) if keys else None), "/status", "get"),
    ):
        document = await document_of(app)
        security = document["paths"][path][method]["security"]
        assert [name for each in security for name in each] == list(document["components"]["securitySchemes"])
        assert ({} in security) == free
        assert "security" not in document["paths"]["/health"]["get"]


@BOTH
async def test_head_and_options_are_answered_as_the_document_says(
    app: QuartTrio, endpoints: Sequence[Endpoint]
) -> None:
    document = await document_of(app)
    client = app.test_client()
    for path in {path for _, path in dict(operations(document)) if "{" not in path and "/debug/" not in path}:
        methods = {method.upper() for method in document["paths"][path]}
        options = await client.options(f"{BASE}{path}")
        assert options.status_code in {200, 204}
        implied = {"OPTIONS", "HEAD"} if "GET" in methods else {"OPTIONS"}
        assert set(options.headers["Allow"].split(", ")) == methods | implied, path
        refused = await client.patch(f"{BASE}{path}")
        assert (refused.status_code, "Allow" in refused.headers) == (405, True)
        if "GET" in methods:
            head = await client.head(f"{BASE}{path}")
            assert str(head.status_code) in document["paths"][path]["get"]["responses"]


@BOTH
async def test_the_page_and_all_it_needs_come_from_here_and_need_no_key(
    app: QuartTrio, endpoints: Sequence[Endpoint]
) -> None:
    client = (
        admin_app(keys=Keys(["secret"])).test_client()
        if "/status" in {each.path for each in endpoints}
        else app.test_client()
    )
    page = await client.get(f"{BASE}/docs")
    assert page.content_type == "text/html; charset=utf-8"
    assert page.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    html = await page.get_data(as_text=True)
    wanted = set(re.findall(r'(?:src|href)="(/docs/[^"]+)"', html))
    for path in ASSETS:
        part = await client.get(f"{BASE}{path}")
        assert part.status_code == 200
        text = await part.get_data(as_text=True)
        wanted |= {f"/docs/{name}" for name in re.findall(r'from "\./([^"]+)"', text)}
        assert not re.search(r"https?://(?!www\.w3\.org/)", text), path
        again = await client.get(f"{BASE}{path}", headers={"If-None-Match": part.headers["ETag"]})
        assert (again.status_code, await again.get_data()) == (304, b"")
    assert wanted == set(ASSETS), "no part is missing, and none is idle"


BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html;q=0.1, application/json", ""])
async def test_whoever_is_no_browser_gets_json_at_the_root(accept: str) -> None:
    answer = await ingest_app().test_client().get(f"{BASE}/", headers={"Accept": accept})
    found = json.loads(await answer.get_data())
    assert (found["service"], found["version"]) == ("hermes", "1.2.3")
    assert {"/events", "/docs", "/openapi.json"} <= set(found["paths"])
    assert not [path for path in found["paths"] if path.startswith("/docs/")]


async def test_a_browser_gets_a_page_at_the_root() -> None:
    answer = await ingest_app().test_client().get(f"{BASE}/", headers=BROWSER)
    assert answer.content_type == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "Accept" in answer.headers["Vary"]
    html = await answer.get_data(as_text=True)
    assert "curl -i http://localhost/events" in html
    assert "X-API-Key" not in html


LOCAL = Address("127.0.0.1", 8081)


@pytest.mark.parametrize(
    ("origin", "client", "admin", "words"),
    [
        ("http://localhost:8080", "127.0.0.1", LOCAL, '<a href="http://127.0.0.1:8081/">'),
        ("http://[::1]:8080", "::1", Address("::1", 1), '<a href="http://[::1]:1/">'),
        ("http://hermes.example", "127.0.0.1", LOCAL, "which ADMIN_ADDR names"),  # through a proxy on this machine
        ("http://localhost:8080", "10.0.0.7", LOCAL, "which ADMIN_ADDR names"),
        ("http://localhost:8080", "127.0.0.1", Address("0.0.0.0", 8081), "which ADMIN_ADDR names"),
        ("http://localhost:8080", None, LOCAL, "which ADMIN_ADDR names"),
        ("http://localhost:8080", "127.0.0.1", None, "ADMIN_ADDR is off"),
        ("http://[", "127.0.0.1", LOCAL, "which ADMIN_ADDR names"),
    ],
)
def test_the_dashboard_is_linked_to_for_who_can_reach_it(
    origin: str, client: str | None, admin: Address | None, words: str
) -> None:
    html = render_landing(origin, client, "1", http_endpoints(), admin, keyed=False).decode()
    assert words in html
    assert ('<a href="http' in html) == words.startswith("<a")


def test_whatever_a_request_says_stays_text_on_the_page() -> None:
    html = render_landing(
        "http://h/'<script>alert(1)</script>", None, "<b>", http_endpoints(), None, keyed=True
    ).decode()
    assert "<script>alert" not in html
    assert "<b>" not in html
    assert "X-API-Key: YOUR_KEY" in html


def test_the_page_shows_the_first_request_that_a_part_declares_and_a_link_for_each_page_of_the_service() -> None:
    quote = Operation(SERVICE, "Book a seat", bodies=(Content(JSON, dict, (Example("A seat", {"name": "O'Hara"}),)),))

    async def book(_request: Request) -> Answer:
        return Response(202)

    seats = Endpoint("POST", "/seats", book, lambda: [quote])
    html = unescape(render_landing("http://h", None, "1", (seats,), None, keyed=False).decode())
    assert "<h2>Book a seat</h2>" in html
    # A shell reads the quote back: 'O' and a quote and 'Hara'.
    assert """curl -i http://h/seats \\\n  -d '{"name": "O'\\''Hara"}'""" in html
    assert re.findall(r'<a href="(/[a-z]+)">/', html) == []
    assert "curl" not in render_landing("http://h", None, "1", (), None, keyed=False).decode().split("The API")[0]
    whole = render_landing("http://h", None, "1", http_endpoints(), None, keyed=False).decode()
    assert set(re.findall(r'<a href="(/[a-z]+)">/', whole)) == {"/aggregates", "/health", "/metrics", "/ready"}
