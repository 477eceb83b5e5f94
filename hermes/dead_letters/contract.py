"""The contract of a store of dead letters: bodies that a part could not hand over, for an operator to see and replay.

Invariants: when `DeadLetters.add` returns, the store keeps the letters as durably as it can. A letter has a number,
given once and never again, and a later letter's number is higher. If the same source refuses the same body and facts
again, the new letter replaces the older one and keeps its number. A store is bounded, and counts the letters that leave
for want of room (`Evictions`). No call holds more than a page of letters in memory. A store reads no body: the part
that owns a letter writes and reads the body (see `hermes.events.letters`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from hermes.dead_letters.evictions import Evictions

# In bytes too: each of a hundred letters may have a body of many megabytes.
PAGE_LETTERS = 100
PAGE_BYTES = 8 * 2**20
"""The default bounds of a page: letters, and bytes of bodies."""

# Where SQLite's AUTOINCREMENT and Postgres's bigint end.
MAX_NUMBER = 2**63 - 1
"""The highest number that any store can give a letter."""

SINKS_PART = "events"
"""The part whose sources are sinks. Operators name its sources without the part."""

# No float: the store in Postgres compares facts by their text, and a float has several.
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

    The part selects letters by their ``facts``, and shows the facts beside ``body``. The part always gives the same
    names, in the same order, with values of the same types. A name has only ASCII letters and underscores.

    >>> source = Source("events", "postgres")
    >>> letter = DeadLetter(source, {"id": "7"}, b"{}", "no such column", 3, rejected_at=9.0, received_at=1.0)
    >>> letter.number  # no store has added the letter yet
    0
    """

    source: Source
    # The part promises names and order, because the digest by which a letter is found again has the values alone.
    facts: Mapping[str, Fact]
    body: bytes
    reason: str
    attempts: int
    rejected_at: float
    received_at: float
    number: int = 0
    """The letter's place in the store, from 1; 0 before a store has added the letter."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters to take: a letter is selected if every given condition holds. Without conditions: all letters.

    >>> Selection("events", name="postgres", facts={"type": "click"}, since=1700000000.0).reason is None
    True
    """

    part: str | None = None
    name: str | None = None
    """The name of the source in its part."""
    facts: Mapping[str, Fact] = field(default_factory=dict)
    """Facts that a letter has, each with exactly this value."""
    reason: str | None = None
    """Text that the reason contains; the case of ASCII letters does not matter."""
    since: float | None = None
    """Unix seconds: refused at that moment or later."""
    numbers: Sequence[int] | None = None
    # Letters that are added while a replay or a purge runs have higher numbers, so it never takes them.
    up_to: int | None = None
    """The highest number. Give `DeadLetters.last` to leave out letters that are added later."""


class DeadLetters(Protocol):
    """An open store. Every call raises `hermes.LogUnavailable` when the storage fails.

    A call that raised has changed nothing; only `remove` may have removed a part.
    """

    evictions: Evictions
    """Letters that made room for newer ones, since the store was opened."""

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters; remove the oldest letters if there is no room."""

    async def page(
        self, selection: Selection, *, after: int = 0, limit: int = PAGE_LETTERS, max_bytes: int = PAGE_BYTES
    ) -> list[DeadLetter]:
        """The first letters that match and have a number above ``after``, in the order of their numbers.

        At most ``limit`` letters, and as many as fit in ``max_bytes`` of bodies, but at least one if any matches.
        """

    async def count(self, selection: Selection) -> Mapping[Source, int]:
        """How many letters match, by source, in the order of the sources; sources without a match are left out."""

    async def last(self) -> int:
        """The highest number of a letter in the store; 0 if the store is empty."""

    async def amend(self, letters: Sequence[DeadLetter]) -> None:
        """Update reason, attempts and time of letters that were refused again. Ignores numbers that are gone."""

    async def remove(self, selection: Selection) -> int:
        """Delete the letters that match; return their count."""
