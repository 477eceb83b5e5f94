"""The admin app over views that show nothing, but for those that a test names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quart_trio import QuartTrio

from hermes.control.admin import judge_admin
from hermes.control.app import Site, make_app
from hermes.control.dashboard import EVENT_PANELS, SERVICE_PANEL, dashboard_endpoints
from hermes.control.dead_letters import DeadLetterDesk, dead_letter_endpoints
from hermes.control.debugging import debug_endpoints
from hermes.control.endpoint import Endpoint
from hermes.control.frame import Frame
from hermes.control.live import Live, live_endpoints
from hermes.control.openapi.pages import documented
from hermes.control.rejected import RejectedDesk, rejected_endpoints
from hermes.control.service import health_endpoint
from hermes.control.tap import TapDesk, tap_endpoints
from hermes.dead_letters import MemoryDeadLetters
from hermes.engine.status_types import ServiceStatus
from hermes.engine.tap import Tap, Wanted
from hermes.http.keys import Keys
from hermes.http.lane import BodyBudget
from hermes.http.rejected import RejectedFeed

PANELS = (*EVENT_PANELS, SERVICE_PANEL)
BASE = "http://127.0.0.1"


async def no_debug(_path: str, _parameters: Mapping[str, str]) -> tuple[int, str, bytes, Mapping[str, str]]:
    raise NotImplementedError


def tap_desk(tap: Tap) -> TapDesk:
    return TapDesk(lambda types, user, sample: tap.follow(Wanted(types, user, sample)), lambda: tap.crowded)


FRAME = Frame(lambda _route, _status, _seconds: None, lambda _change: None, lambda: b"1", 2**20)


def admin_endpoints(
    *,
    keys: Keys | None = None,
    live: Live | None = None,
    tap: TapDesk | None = None,
    rejected: RejectedDesk | None = None,
    dead_letters: DeadLetterDesk | None = None,
) -> tuple[Endpoint, ...]:
    """The endpoints of ADMIN_ADDR, with those of its document; ``keys`` None: it wants no key."""
    own = (
        *dashboard_endpoints(PANELS),
        *live_endpoints(live or Live(lambda: None, lambda: b"{}"), ServiceStatus),
        *tap_endpoints(tap or tap_desk(Tap())),
        *rejected_endpoints(rejected or RejectedDesk(RejectedFeed(), lambda: False)),
        *dead_letter_endpoints(dead_letters or DeadLetterDesk(MemoryDeadLetters(10), {})),
        health_endpoint("ADMIN_ADDR"),
        *debug_endpoints("ADMIN_ADDR", dict, no_debug),
    )
    return documented("ADMIN_ADDR", "1.2.3", own, keyed=keys is not None)


def admin_app(*, keys: Keys | None = None, **given: Any) -> QuartTrio:
    """The app of ADMIN_ADDR; ``given`` are arguments of `admin_endpoints`."""
    served = admin_endpoints(keys=keys, **given)
    return make_app(Site(FRAME, served, BodyBudget(2**20), Keys(), judge_admin(keys or Keys(), served)))
