"""`Core`: the settings of the service, its storage, and the values of the parts that a part needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hermes.net.http.ingress import Ingress
from hermes.part import Part
from hermes.settings import Settings
from hermes.storage import World


@dataclass(frozen=True)
class Core:
    """The argument of a part's ``open``.

    The data routes of all parts share ``ingress``. ``parts`` are the declarations of all parts that run. ``needed`` has
    the value of each part in `Part.needs`, by name.

    ::

        @asynccontextmanager
        async def open_jobs(settings: object, core: Core) -> AsyncIterator[RunningPart]:
            clock = core.needed["clock"]  # the value of the part, which `Part.needs` has to name
            yield RunningPart(value=clock())
    """

    settings: Settings
    world: World
    ingress: Ingress
    parts: Sequence[Part] = ()
    needed: Mapping[str, Any] = field(default_factory=dict)

    def with_needed(self, needed: Mapping[str, Any]) -> Core:
        """Return a copy with the values of the needed parts."""
        # A copy for each part: a part gets the values that `Part.needs` names, and cannot come to depend on others
        # unsaid.
        return replace(self, needed=needed)
