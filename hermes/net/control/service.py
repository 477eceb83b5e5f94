"""The endpoints about the service, for machines: health, readiness, metrics, and the index.

``/health`` is on either address, the others on HTTP_ADDR. Invariant: ``/health`` answers as long as the process does;
``/ready`` says whether events are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from hermes.config import Address
from hermes.net.control.endpoint import AddressName, Answer, Endpoint, Request
from hermes.net.control.files import HEADERS, HTML, serve
from hermes.net.control.openapi import operation
from hermes.net.control.openapi.landing import render_landing
from hermes.net.control.openapi.operation import HTML_TYPE, JSON, RETRY_AFTER, SERVICE, Content, Operation
from hermes.net.http.response import Response, problem


class Health(msgspec.Struct):
    """The process answers."""

    status: Literal["ok"]


class Ready(msgspec.Struct):
    """Events are taken."""

    status: Literal["ready"]


class Index(msgspec.Struct):
    """The service at this address, and its paths."""

    service: Literal["hermes"]
    version: str
    paths: list[str]


_HEALTHY = Response(200, b'{"status":"ok"}')
_READY = Response(200, b'{"status":"ready"}')


def health_endpoint(address: AddressName) -> Endpoint:
    """``/health`` of an address."""

    async def health(_request: Request) -> Answer:
        return _HEALTHY

    return Endpoint("GET", "/health", health, _describe_health, address)


def service_endpoints(
    not_ready: Callable[[], str | None], metrics: Callable[[str], tuple[bytes, str]]
) -> tuple[Endpoint, ...]:
    """``/ready`` and ``/metrics``. ``not_ready`` says why no event is taken; ``metrics(accept)`` gives body, type."""

    async def ready(_request: Request) -> Answer:
        why_not = not_ready()
        return _READY if why_not is None else problem(503, why_not, {"Retry-After": "1"})

    async def show_metrics(request: Request) -> Answer:
        body, content_type = metrics(request.headers.get("accept", ""))
        return Response(200, body, content_type)

    return (
        Endpoint("GET", "/ready", ready, _describe_ready),
        Endpoint("GET", "/metrics", show_metrics, _describe_metrics),
    )


def index_endpoint(version: str, admin: Address | None, endpoints: Sequence[Endpoint], *, keyed: bool) -> Endpoint:
    """``/`` of HTTP_ADDR: a page for browsers, and for others the paths of ``endpoints`` that have no parameter."""
    # The parts of pages are no paths that a reader of the index looks for, so the documents' are left out.
    paths = {"/", "/docs", "/openapi.json"} | {each.path for each in endpoints if "{" not in each.path}
    index = msgspec.json.encode({"service": "hermes", "version": version, "paths": sorted(paths)})

    async def show(request: Request) -> Answer:
        accepted = parse_accept_header(request.headers.get("accept"), MIMEAccept)
        # JSON first: of types that a client likes alike, as by curl's `*/*`, the first one is taken.
        if accepted.best_match([JSON, HTML_TYPE]) != HTML_TYPE:
            return Response(200, index)
        page = render_landing(request.origin, request.client, version, endpoints, admin, keyed=keyed)
        # The page depends on both: it greets browsers alone, and it repeats the name that the browser asked for.
        return serve(request, page, HTML, {**HEADERS, "Vary": "Accept, Host"})

    return Endpoint("GET", "/", show, _describe_index)


def _describe_health() -> Iterable[Operation]:
    yield Operation(
        SERVICE,
        "Tell whether the process is alive",
        answers=(operation.Answer(200, "The process is alive.", (Content(JSON, Health),)),),
    )


def _describe_ready() -> Iterable[Operation]:
    yield Operation(
        SERVICE,
        "Tell whether events are taken",
        answers=(
            operation.Answer(200, "Events are taken.", (Content(JSON, Ready),)),
            operation.problem(503, "A stop is under way, or the journal cannot be written.", RETRY_AFTER),
        ),
    )


def _describe_metrics() -> Iterable[Operation]:
    contents = (Content("text/plain", str), Content("application/openmetrics-text", str))
    yield Operation(
        SERVICE,
        "Show the metrics for Prometheus",
        answers=(operation.Answer(200, "The text format, or OpenMetrics when that is asked for.", contents),),
    )


def _describe_index() -> Iterable[Operation]:
    yield Operation(
        SERVICE,
        "Show the service at this address",
        "A browser gets a page, any other client JSON.",
        answers=(operation.Answer(200, "The service.", (Content(JSON, Index), Content(HTML_TYPE, str))),),
    )
