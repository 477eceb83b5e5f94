"""What a store of dead letters is: the bodies that a part could not hand over, kept for an operator to see and replay.

Invariants: `DeadLetters.add` has returned: the letters are kept by the store's own standard. A letter has a number,
given once and never again, and a later letter's is higher; a body that the same source refuses again, byte for byte and
with the same facts, takes the place of its older letter under the same number. A store is bounded, and what leaves it
for want of room is counted (`Evictions`). No call holds more than a page of letters in memory. A store reads no body:
the part that owns a letter makes it and reads it (see `hermes.dead_letters.events`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from hermes.dead_letters.evictions import Evictions

PAGE_LETTERS = 100
PAGE_BYTES = 8 * 2**20
"""The bounds of a page, where its reader names none: letters, and bytes of bodies."""

MAX_NUMBER = 2**63 - 1
"""The highest number that any store can give a letter."""

Fact: TypeAlias = str | int
"""The value of a fact: text without U+0000, or an integer of 64 bits."""


class Source(NamedTuple):
    """Where letters come from: a part of Hermes, and a name in it such as that of a sink.

    >>> Source("events", "postgres").name
    'postgres'
    """

    part: str
    name: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused body: by which source, why, after how many attempts, and when (both times in Unix seconds).

    ``facts`` are what its part selects it by and shows beside ``body``. The part always gives the same names, in the
    same order, with values of the same types. A name has ASCII letters and underscores alone.
    """

    source: Source
    facts: Mapping[str, Fact]
    body: bytes
    reason: str
    attempts: int
    rejected_at: float
    received_at: float
    number: int = 0
    """Its place in the store, from 1; 0 until it has one."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters: those that match everything that is given."""

    part: str | None = None
    name: str | None = None
    """The name of the source in its part."""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    """Facts that a letter has, each with exactly this value."""
    reason: str | None = None
    """A part of the reason; ASCII letters in any case."""
    since: float | None = None
    """Unix seconds: refused at that moment or later."""
    numbers: Sequence[int] | None = None
    up_to: int | None = None
    """The highest number; with `DeadLetters.last`: what is there now, whatever comes meanwhile."""


class DeadLetters(Protocol):
    """An open store. Every call raises `hermes.LogUnavailable` when the storage fails.

    It has then done nothing; only `remove` may have done a part.
    """

    evictions: Evictions
    """Letters that made room for newer ones, since the store was opened."""

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters; the oldest make room."""

    async def page(
        self, selection: Selection, *, after: int = 0, limit: int = PAGE_LETTERS, max_bytes: int = PAGE_BYTES
    ) -> list[DeadLetter]:
        """The first letters that match and have a number above ``after``, in the order of their numbers.

        At least one if there is any; at most ``limit``, and as many as fit in ``max_bytes`` of bodies.
        """

    async def count(self, selection: Selection) -> Mapping[Source, int]:
        """How many letters match, by source, in the order of the sources; sources without any are left out."""

    async def last(self) -> int:
        """The highest number of a letter that is kept, 0 if there is none."""

    async def amend(self, letters: Sequence[DeadLetter]) -> None:
        """Write reason, attempts and time of letters that were refused again, by their numbers; gone ones stay gone."""

    async def remove(self, selection: Selection) -> int:
        """Forget the letters that match for good; return how many of them there were."""
