"""The page that a browser sees at ``/`` where events come in.

Invariants: every text of a request is escaped; the page links to the dashboard only if the visitor is on this machine
and only this machine reaches the admin address. Pure but for the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from ipaddress import ip_address
from string import Template
from urllib.parse import urlsplit

import msgspec

from hermes.config import Address
from hermes.events.protocols.openapi.example import example_event
from hermes.net.control.files import read

_TEMPLATE = Template(read("hermes.net.control.openapi", "page/landing.html").decode())
_REMOTE = "The dashboard is on the admin address of this service, which ADMIN_ADDR names."
_OFF = "This service has no admin address, and so no dashboard: ADMIN_ADDR is off."


def render_landing(
    origin: str, client: str | None, version: str, event_types: Sequence[str], admin: Address | None, *, keyed: bool
) -> bytes:
    """The page for a visitor at the address ``client`` who asked for ``origin`` (``http://host:port``)."""
    body = msgspec.json.format(msgspec.json.encode(example_event(event_types)), indent=0).decode()
    key = " \\\n  -H 'X-API-Key: YOUR_KEY'" if keyed else ""
    return _TEMPLATE.substitute(
        version=escape(version),
        origin=escape(origin),
        curl=escape(f"curl -i {origin}/events{key} \\\n  -d '{body}'"),
        dashboard=_lead_to_dashboard(origin, client, admin),
    ).encode()


def _lead_to_dashboard(origin: str, client: str | None, admin: Address | None) -> str:
    if admin is None:
        return escape(_OFF)
    # Both: through a proxy on this machine every client comes from loopback, but asks for another name.
    here = _is_loopback(client or "") and _is_loopback(_host_of(origin))
    # With port 0 the system chooses the port, and the setting does not tell it.
    if not (here and admin.is_loopback and admin.port):
        return escape(_REMOTE)
    link = f'<a href="http://{escape(str(admin))}/">The dashboard</a>'
    return f"{link}, which only this machine can reach, shows the rate, every sink and the dead letters."


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    """Whether this names, or is an address of, the machine itself."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
