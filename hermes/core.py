"""What every part stands on: the settings of the service, where it keeps things, and the parts that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hermes.net.http.ingress import Ingress
from hermes.settings import Settings
from hermes.world import World


@dataclass(frozen=True)
class Core:
    """What a part gets when it is opened.

    ``ingress`` is what its data routes share with those of other parts. ``needed`` has, by name, the value of each part
    that it needs.

    ::

        @asynccontextmanager
        async def open_jobs(settings: object, core: Core) -> AsyncIterator[RunningPart]:
            clock = core.needed["clock"]  # the value of the part, which `Part.needs` has to name
            yield RunningPart(value=clock())
    """

    settings: Settings
    world: World
    ingress: Ingress
    needed: Mapping[str, Any] = field(default_factory=dict)

    def with_needed(self, needed: Mapping[str, Any]) -> Core:
        """The same for a part that needs others."""
        return replace(self, needed=needed)
