"""The page that a browser sees at ``/`` where events come in.

Invariants: every text of a request is escaped; the page links to the dashboard only if the visitor is on this machine
and only this machine reaches the admin address. Pure but for the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from ipaddress import ip_address
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec

from hermes.config import Address
from hermes.net.control.files import read
from hermes.net.control.openapi.operation import JSON, SERVICE, Operation

if TYPE_CHECKING:
    from hermes.net.control.endpoint import Endpoint

_TEMPLATE = Template(read("hermes.net.control.openapi", "page/landing.html").decode())
_REMOTE = "The dashboard is on the admin address of this service, which ADMIN_ADDR names."
_OFF = "This service has no admin address, and so no dashboard: ADMIN_ADDR is off."


def render_landing(
    origin: str, client: str | None, version: str, endpoints: Sequence[Endpoint], admin: Address | None, *, keyed: bool
) -> bytes:
    """The page for a visitor at the address ``client`` who asked for ``origin`` (``http://host:port``).

    The page shows a request, and links to pages, that the ``endpoints`` declare.
    """
    return _TEMPLATE.substitute(
        # Every text is escaped: the origin repeats the Host of the request.
        version=escape(version),
        first="".join(_show_first(origin, endpoints, keyed=keyed)),
        doors="\n        ".join(_show_doors(endpoints)),
        dashboard=_lead_to_dashboard(origin, client, admin),
    ).encode()


def _show_first(origin: str, endpoints: Sequence[Endpoint], *, keyed: bool) -> Iterator[str]:
    """Show the first request that takes JSON and has an example, as curl sends it."""
    for endpoint, operation in _declared("POST", endpoints):
        for content in operation.bodies:
            if content.media_type == JSON and content.examples:
                body = msgspec.json.format(msgspec.json.encode(content.examples[0].value), indent=0).decode()
                key = " \\\n  -H 'X-API-Key: YOUR_KEY'" if keyed else ""
                # A quote ends the shell's text, so a quote of the body is written between two texts.
                quoted = body.replace("'", "'\\''")
                curl = f"curl -i {origin}{operation.path or endpoint.path}{key} \\\n  -d '{quoted}'"
                yield f'<h2>{escape(operation.summary)}</h2>\n      <div class="code" data-copy>\n        '
                yield f'<pre tabindex="0">{escape(curl)}</pre>\n      </div>'
                return


def _show_doors(endpoints: Sequence[Endpoint]) -> Iterator[str]:
    """List the pages about the service that need no parameter."""
    for endpoint, operation in _declared("GET", endpoints):
        path = operation.path or endpoint.path
        if operation.tag == SERVICE and "{" not in path:
            yield f'<li><a href="{escape(path)}">{escape(path)}</a>: {escape(operation.summary)}</li>'


def _declared(method: str, endpoints: Sequence[Endpoint]) -> Iterator[tuple[Endpoint, Operation]]:
    for endpoint in endpoints:
        if endpoint.method == method:
            for operation in endpoint.describe():
                yield endpoint, operation


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
