"""The OpenAPI documents: each route declared, each declaration served, and what they say is what the code does."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from quart_trio import QuartTrio

from hermes.control.admin import make_admin_app
from hermes.control.app import Views, make_app
from hermes.control.dashboard import PAGES
from hermes.control.openapi.addresses import declare_admin, declare_ingest
from hermes.control.openapi.document import served
from hermes.control.openapi.operation import Operation
from hermes.control.openapi.pages import ASSETS
from hermes.engine.status import ServiceStatus
from hermes.http.keys import Keys
from hermes.http.lane import BodyBudget
from hermes.protocols.routes import make_routes
from tests.control.kit import BASE, admin_views, no_debug
from tests.http.kit import FakeIntake

TYPES = ("song_played", "ad_clicked")
PARTS = set(ASSETS) | (set(PAGES) - {"/"})
"""Parts of pages, which are no operations."""


def ingest_app(*, debug: bool = True, keys: tuple[str, ...] = (), event_types: tuple[str, ...] = TYPES) -> QuartTrio:
    routes = make_routes(FakeIntake(), Counter(), event_types=event_types, max_body_bytes=2**20, keys=keys)
    return make_app(
        Views(
            version="1.2.3",
            frame=admin_views().frame,
            ready=lambda: None,
            aggregates=dict,
            metrics=lambda _accept: (b"", "text/plain"),
            routes=routes,
            body_budget=BodyBudget(2**20),
            event_types=event_types,
            keyed=bool(keys),
            debug=no_debug if debug else None,
            accounting=dict if debug else None,
        )
    )


def admin_app(*keys: str) -> QuartTrio:
    return make_admin_app(admin_views(keys=Keys(keys) if keys else None))


async def document_of(app: QuartTrio) -> dict[str, Any]:
    response = await app.test_client().get(f"{BASE}/openapi.json")
    assert response.status_code == 200
    document: dict[str, Any] = json.loads(await response.get_data())
    return document


BOTH = pytest.mark.parametrize(
    ("app", "declared"),
    [(ingest_app(), declare_ingest(TYPES)), (admin_app(), declare_admin(ServiceStatus))],
    ids=["ingest", "admin"],
)


@BOTH
def test_every_route_is_declared_and_every_declaration_served(app: QuartTrio, declared: list[Operation]) -> None:
    routes = {(method, path) for method, path in served(app.url_map.iter_rules()) if path not in PARTS}
    assert {(each.method, each.rule or each.path) for each in declared} == routes


@BOTH
async def test_the_document_is_valid_openapi_3_1(app: QuartTrio, declared: list[Operation]) -> None:
    document = await document_of(app)
    assert document["openapi"] == "3.1.0"
    schemathesis.openapi.from_dict(document).validate()
    for name, schema in document["components"]["schemas"].items():
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}), name
