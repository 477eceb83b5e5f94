"""What a store of dead letters is: events that a sink refused for good, kept for somebody to look at and send again.

Invariants: `DeadLetters.add` has returned: the letters are kept by the store's own standard. A letter has a number,
given once; an event that the same sink refuses again, byte for byte, takes the place of its older letter under the same
number. A store is bounded, and what leaves it for want of room is counted.

Implemented by the stores beside this file; written by the deliveries; read by ``hermes dlq`` and ``/dead-letters``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from hermes.event import Event


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused event: by which sink, why, after how many attempts, and when (both times in Unix seconds)."""

    event: Event
    sink: str
    reason: str
    attempts: int
    rejected_at: float
    received_at: float
    number: int = 0
    """Its place in the store, from 1; 0 until it has one."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters: those that match everything that is given."""

    sink: str | None = None
    type: str | None = None
    reason: str | None = None
    """A part of the reason, in any case of letters."""
    since: float | None = None
    """Unix seconds: refused at that moment or later."""
    numbers: Sequence[int] | None = None


class DeadLetters(Protocol):
    """An open store."""

    evicted: int
    """Letters that made room for newer ones, since the store was opened."""

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters; the oldest make room. Raises `hermes.LogUnavailable` when the storage fails."""

    async def page(self, selection: Selection, *, after: int = 0, limit: int = 100) -> list[DeadLetter]:
        """The first ``limit`` letters that match and have a number above ``after``, in the order of their numbers."""

    async def count(self, selection: Selection) -> int:
        """How many letters match."""

    async def remove(self, numbers: Sequence[int]) -> int:
        """Forget these letters for good; return how many of them there were."""

    async def amend(self, letters: Sequence[DeadLetter]) -> None:
        """Write reason, attempts and time of letters that were refused again, by their numbers; gone ones stay gone."""
