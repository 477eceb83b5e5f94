"""The routes of the admin address, as a Quart-Trio app: what operators see and do.

Invariants: nothing here is served on the address where events come in. A request passes only with one of the admin keys
or, where there are none, from this machine and under a name of this machine, so that no web page that the operator
visits can reach it: neither by a form or an image (its origin is another) nor by a name that it lets point here (DNS
rebinding).
The admin edge lends what is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

import msgspec
from quart import Response as QuartResponse
from quart import request
from quart_trio import QuartTrio

from hermes.control.app import DebugAnswer, add_accounting, add_debug
from hermes.control.dashboard import PAGES, add_dashboard
from hermes.control.dead_letters import DeadLetterDesk, add_dead_letters
from hermes.control.frame import Frame, make_frame
from hermes.control.live import Live, add_live
from hermes.control.openapi.pages import OPEN_PATHS as DOCS
from hermes.control.openapi.pages import add_docs
from hermes.control.origin import refuse_foreign
from hermes.control.rejected import RejectedDesk, add_rejected
from hermes.control.reply import join_headers, to_quart
from hermes.control.tap import TapDesk, add_tap
from hermes.http.keys import Keys, refuse_key
from hermes.http.response import Response, problem

OPEN_PATHS = frozenset({"/health", *PAGES, *DOCS})
"""What needs no key: it tells nothing."""


@dataclass(frozen=True)
class AdminViews:
    """What the admin app shows, each a callable of whoever owns it. ``keys`` None: this machine needs none.

    ``status`` is the type of what ``live`` renders.
    """

    version: str
    frame: Frame
    keys: Keys | None
    debug: DebugAnswer
    accounting: Callable[[], Mapping[str, object]]
    dead_letters: DeadLetterDesk
    live: Live
    status: type[msgspec.Struct]
    tap: TapDesk
    rejected: RejectedDesk


def make_admin_app(views: AdminViews) -> QuartTrio:
    """The ASGI app over these views."""
    app = make_frame(views.frame)

    @app.before_request
    async def judge() -> QuartResponse | None:
        refusal = _refuse(views.keys, request.path, join_headers())
        return None if refusal is None else to_quart(refusal)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    add_accounting(app, views.accounting)
    add_debug(app, views.debug)
    add_dead_letters(app, views.dead_letters)
    add_live(app, views.live)
    add_tap(app, views.tap)
    add_rejected(app, views.rejected)
    add_dashboard(app)
    add_docs(app, lambda: _describe(app, views))
    return app


def _describe(app: QuartTrio, views: AdminViews) -> bytes:
    from hermes.control.openapi.addresses import describe_admin

    return describe_admin(app, views.version, views.status, keyed=views.keys is not None)


def _refuse(keys: Keys | None, path: str, headers: Mapping[str, str]) -> Response | None:
    """The answer to a request that must not pass."""
    if keys is None and not _names_this_machine(headers.get("host", "")):
        return problem(
            421,
            "the admin address answers to localhost or to an IP address: use one, or set ADMIN_KEYS for other names",
        )
    is_open = path in OPEN_PATHS
    if (refusal := refuse_foreign(headers, page=is_open)) is not None:
        return refusal
    if keys is not None and not is_open and not keys.admit(headers):
        return refuse_key(headers)
    return None


def _names_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
