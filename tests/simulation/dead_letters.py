"""The simulated store of dead letters: the one in memory, which outlives a crash as one row of the simulated disk.

Invariant: a call that changes something has returned: the change survives a crash; it has raised: nothing was changed.
Opened for one life of the service; the oracle reads the row when all is over.
"""

from __future__ import annotations

import pickle
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import trio
from msgspec import Raw

from hermes.dead_letters import DeadLetter, MemoryDeadLetters, Selection
from hermes.dead_letters.contract import PAGE_BYTES, PAGE_LETTERS
from hermes.dead_letters.evictions import Evictions
from hermes.errors import LogUnavailable
from hermes.event import Event
from tests.simulation.disk import Disk, Mount

FILE = "letters"

ResultT = TypeVar("ResultT")


def _plain(event: Event) -> Event:
    """The event without its class, which the decoder makes at run time and nobody can pickle."""
    return Event(event.id, event.user_id, event.type, event.timestamp, Raw(bytes(event.payload)))


def kept_letters(disk: Disk) -> list[DeadLetter]:
    """What the disk has."""
    row = disk.file(FILE).rows.get(0)
    return list(pickle.loads(row)) if row is not None else []


class SimulatedDeadLetters:
    """The store on a mounted disk, for at most ``max_letters``."""

    def __init__(self, mount: Mount, max_letters: int) -> None:
        row = mount.rows(FILE).get(0)
        self._kept: MemoryDeadLetters = pickle.loads(row) if row is not None else MemoryDeadLetters(max_letters)
        self.evictions = self._kept.evictions = Evictions()
        self._mount = mount
        self._turn = trio.Lock()

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        plain = [replace(letter, event=_plain(letter.event)) for letter in letters]
        await self._change(lambda draft: draft.add(plain))

    async def amend(self, letters: Sequence[DeadLetter]) -> None:
        await self._change(lambda draft: draft.amend(letters))

    async def remove(self, selection: Selection) -> int:
        return await self._change(lambda draft: draft.remove(selection))

    async def page(
        self, selection: Selection, *, after: int = 0, limit: int = PAGE_LETTERS, max_bytes: int = PAGE_BYTES
    ) -> list[DeadLetter]:
        return await self._kept.page(selection, after=after, limit=limit, max_bytes=max_bytes)

    async def count(self, selection: Selection) -> Mapping[str, int]:
        return await self._kept.count(selection)

    async def last(self) -> int:
        return await self._kept.last()

    async def _change(self, operation: Callable[[MemoryDeadLetters], Awaitable[ResultT]]) -> ResultT:
        async with self._turn:
            draft: MemoryDeadLetters = pickle.loads(pickle.dumps(self._kept))
            result = await operation(draft)
            self._mount.write(FILE, 0, pickle.dumps(draft), whole=True)
            with trio.CancelScope(shield=True):
                try:
                    await self._mount.sync(FILE)
                except OSError as error:
                    raise LogUnavailable(str(error)) from error
            self._kept = draft
            self.evictions = draft.evictions
            return result
