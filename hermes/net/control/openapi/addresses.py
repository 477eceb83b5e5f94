"""Makes the OpenAPI document of an address from its endpoints and an introduction.

Imported at the first request for a document.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hermes.net.control.endpoint import AddressName, Endpoint
from hermes.net.control.openapi.document import About, make_document
from hermes.net.control.openapi.operation import CHALLENGE, problem

_SHARED = (
    "Errors are problem details (RFC 9457) unless an operation says otherwise, and `detail` says what to do. HEAD is "
    "answered wherever GET is, OPTIONS everywhere; any other method gets 405 with `Allow`. Every answer carries "
    "`X-Request-Id`: the client's own, or a new one."
)


def describe(address: AddressName, version: str, endpoints: Sequence[Endpoint], *, keyed: bool) -> bytes:
    """The document of an address with these endpoints, as JSON. ``keyed``: the address has keys."""
    about = _about_admin(version, keyed=keyed) if address == "ADMIN_ADDR" else _about_http(version, keyed=keyed)
    return msgspec.json.encode(make_document(about, endpoints))


def _about_http(version: str, *, keyed: bool) -> About:
    return About("Hermes API", version, "The address where events come in.\n\n" + _SHARED, keyed)


def _about_admin(version: str, *, keyed: bool) -> About:
    # Without keys the address answers to names of this machine alone, so that no page can reach it by DNS rebinding.
    nameless = problem(421, "The Host is not a name of this machine, and no ADMIN_KEYS are set.")
    return About(
        "Hermes admin API",
        version,
        "The address where operators see and act.\n\n" + _SHARED,
        keyed,
        everywhere=(problem(403, "A page of another origin asks for it."), *(() if keyed else (nameless,))),
        secured=(problem(401, "No key, or a wrong one.", CHALLENGE),) if keyed else (),
    )
