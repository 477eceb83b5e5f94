"""The admin app over views that show nothing, but for those that a test names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hermes.control.admin import AdminViews
from hermes.control.dead_letters import DeadLetterDesk
from hermes.control.frame import Frame
from hermes.control.live import Live
from hermes.control.rejected import RejectedDesk
from hermes.control.tap import TapDesk
from hermes.dead_letters import MemoryDeadLetters
from hermes.engine.status import ServiceStatus
from hermes.engine.tap import Tap, Wanted
from hermes.http.rejected import RejectedFeed

BASE = "http://127.0.0.1"


async def no_debug(_path: str, _parameters: Mapping[str, str]) -> tuple[int, str, bytes, Mapping[str, str]]:
    raise NotImplementedError


def tap_desk(tap: Tap) -> TapDesk:
    return TapDesk(lambda types, user, sample: tap.follow(Wanted(types, user, sample)), lambda: tap.crowded)


def admin_views(**given: Any) -> AdminViews:
    """Views for `make_admin_app`, without keys; ``given`` are some of its fields."""
    plain: dict[str, Any] = {
        "version": "1.2.3",
        "frame": Frame(lambda _route, _status, _seconds: None, lambda _change: None, lambda: b"1", 2**20),
        "keys": None,
        "debug": no_debug,
        "accounting": dict,
        "dead_letters": DeadLetterDesk(MemoryDeadLetters(10), {}),
        "live": Live(lambda: None, lambda: b"{}"),
        "status": ServiceStatus,
        "tap": tap_desk(Tap()),
        "rejected": RejectedDesk(RejectedFeed(), lambda: False),
    }
    return AdminViews(**(plain | given))
