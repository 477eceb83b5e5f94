"""The admin app over views that show nothing, but for those that a test names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart_trio import QuartTrio

from hermes.dead_letters import MemoryDeadLetters
from hermes.dead_letters.desk import DeadLetterDesk, DeadLettersStatus
from hermes.dead_letters.http import dead_letter_endpoints
from hermes.dead_letters.opening import PANEL as DEAD_LETTERS_PANEL
from hermes.events.admin_routes import PANELS as EVENT_PANELS
from hermes.events.engine.status_types import EventsStatus
from hermes.events.engine.tap import Tap
from hermes.events.letters import EVENT_LETTERS
from hermes.events.rejected_routes import RejectedDesk, rejected_endpoints
from hermes.events.tap_routes import tap_endpoint
from hermes.net.control.admin import judge_admin
from hermes.net.control.app import Site, make_app
from hermes.net.control.dashboard import SERVICE_PANEL, dashboard_endpoints
from hermes.net.control.debugging import debug_endpoints
from hermes.net.control.endpoint import Endpoint
from hermes.net.control.frame import Frame
from hermes.net.control.live import Live, live_endpoints
from hermes.net.control.openapi.pages import documented
from hermes.net.control.service import health_endpoint
from hermes.net.http.keys import Keys
from hermes.net.http.lane import BodyBudget
from hermes.net.http.rejected_feed import RejectedFeed

PANELS = (*EVENT_PANELS, DEAD_LETTERS_PANEL, SERVICE_PANEL)
STATUSES = {"events": EventsStatus, "dead_letters": DeadLettersStatus}
BASE = "http://127.0.0.1"


async def no_debug(_path: str, _parameters: Mapping[str, str]) -> tuple[int, str, bytes, Mapping[str, str]]:
    raise NotImplementedError


FRAME = Frame(lambda _route, _status, _seconds: None, lambda _change: None, lambda: b"1", 2**20)


def admin_endpoints(
    *,
    keys: Keys | None = None,
    live: Live | None = None,
    tap: Tap | None = None,
    rejected: RejectedDesk | None = None,
    dead_letters: DeadLetterDesk | None = None,
) -> tuple[Endpoint, ...]:
    """The endpoints of ADMIN_ADDR, with those of its document; ``keys`` None: it wants no key."""
    own = (
        *dashboard_endpoints(PANELS),
        *live_endpoints(live or Live(lambda: None, lambda: b"{}"), STATUSES),
        tap_endpoint(tap or Tap()),
        *rejected_endpoints(rejected or RejectedDesk(RejectedFeed(), lambda: False)),
        *dead_letter_endpoints(dead_letters or DeadLetterDesk(MemoryDeadLetters(10), views={"events": EVENT_LETTERS})),
        health_endpoint("ADMIN_ADDR"),
        *debug_endpoints("ADMIN_ADDR", dict, no_debug),
    )
    return documented("ADMIN_ADDR", "1.2.3", own, keyed=keys is not None)


def admin_app(*, keys: Keys | None = None, **given: Any) -> QuartTrio:
    """The app of ADMIN_ADDR; ``given`` are arguments of `admin_endpoints`."""
    served = admin_endpoints(keys=keys, **given)
    return make_app(Site(FRAME, served, BodyBudget(2**20), Keys(), judge_admin(keys or Keys(), served)))
