"""What each address says about itself: its document, of its routes and of the declarations beside them.

Imported when a document is first asked for: it brings the modules for debugging, whose bounds it tells.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from quart_trio import QuartTrio

from hermes.control.openapi import events, operations, otlp, segment, service
from hermes.control.openapi.data import CHALLENGE
from hermes.control.openapi.document import Address, make_document, served
from hermes.control.openapi.operation import Operation, problem

_SHARED = (
    "Errors are problem details (RFC 9457) unless an operation says otherwise, and `detail` says what to do. HEAD is "
    "answered wherever GET is, OPTIONS everywhere; any other method gets 405 with `Allow`. Every answer carries "
    "`X-Request-Id`: the client's own, or a new one."
)


def declare_ingest(event_types: Sequence[str], *, any_times: bool = False) -> list[Operation]:
    """Every operation that the address of events can serve."""
    return [
        events.declare_events(event_types, any_times=any_times),
        *segment.declare_segment(event_types),
        otlp.declare_otlp(event_types),
        *service.declare_service(),
        *service.declare_documentation(),
    ]


def declare_admin(status: type[msgspec.Struct]) -> list[Operation]:
    """Every operation that the admin address serves; ``status`` is the type of its status."""
    return [*operations.declare_admin(status), *service.declare_documentation()]


def describe_ingest(
    app: QuartTrio, version: str, event_types: Sequence[str], *, keyed: bool, any_times: bool = False
) -> bytes:
    """The document of the address where events come in, as JSON."""
    address = Address(
        title="Hermes API",
        version=version,
        words="The address where events come in.\n\n" + _SHARED,
        keyed=keyed,
        tags={each.TAG: each.WORDS for each in (events, segment, otlp)} | service.TAGS,
    )
    return _describe(address, app, declare_ingest(event_types, any_times=any_times))


def describe_admin(app: QuartTrio, version: str, status: type[msgspec.Struct], *, keyed: bool) -> bytes:
    """The document of the admin address, as JSON."""
    address = Address(
        title="Hermes admin API",
        version=version,
        words="The address where operators see and act.\n\n" + _SHARED,
        keyed=keyed,
        tags=operations.TAGS | service.TAGS,
        everywhere=(
            problem(403, "A page of another origin asks for it."),
            *(() if keyed else (problem(421, "The Host is no name of this machine, and no ADMIN_KEYS are set."),)),
        ),
        secured=(problem(401, "No key, or a wrong one.", CHALLENGE),) if keyed else (),
    )
    return _describe(address, app, declare_admin(status))


def _describe(address: Address, app: QuartTrio, declared: Sequence[Operation]) -> bytes:
    return msgspec.json.encode(make_document(address, served(app.url_map.iter_rules()), declared))
