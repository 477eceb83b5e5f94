"""The dead letters as a part: opens the store that every part shares."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from hermes.config import NoSettings
from hermes.part import Part, RunningPart

if TYPE_CHECKING:
    from hermes.core import Core


@asynccontextmanager
async def open_dead_letters(_settings: NoSettings, core: Core) -> AsyncIterator[RunningPart]:
    """Open the store that DURABILITY asks for. The value of the part is a `hermes.dead_letters.DeadLetters`."""
    async with core.world.open_dead_letters(core.settings) as store:
        yield RunningPart(value=store, metrics=(store.evictions,))


DEAD_LETTERS = Part("dead_letters", "Keeps refused events, to be looked at and replayed", open_dead_letters)
