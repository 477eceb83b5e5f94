"""Opens the part of the dead letters: the store that every part shares, with its endpoints and its panel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from hermes.core import Core
from hermes.dead_letters.desk import DeadLetterDesk, DeadLettersStatus
from hermes.dead_letters.http import dead_letter_endpoints
from hermes.dead_letters.settings import DeadLetterSettings
from hermes.net.control.panel import Panel
from hermes.part import PartStatus, RunningPart

PANEL = Panel("dead-letters", "Dead letters", "hermes.dead_letters", "panel.js")


@asynccontextmanager
async def open_dead_letters(settings: DeadLetterSettings, core: Core) -> AsyncIterator[RunningPart]:
    """Open the store that DURABILITY asks for. The value of the part is a `DeadLetterDesk`."""
    async with core.world.open_dead_letters(core.settings.storage, settings.dead_letters) as store:
        evictions = store.evictions
        status = PartStatus(DeadLettersStatus, lambda _now, _wall: DeadLettersStatus(evictions.came, evictions.total))
        # Of the declarations: the parts that own letters need this part, and are not open yet.
        views = {part.name: part.letters() for part in core.parts if part.letters is not None}
        desk = DeadLetterDesk(store, views=views)
        yield RunningPart(
            value=desk, endpoints=dead_letter_endpoints(desk), metrics=(evictions,), panels=(PANEL,), status=status
        )
