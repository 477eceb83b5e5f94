"""Dead letters: events that a sink refused for good, with its reason, kept for somebody to look at and send again.

`DeadLetters` is the interface; `MemoryDeadLetters` is the bounded store that DURABILITY=memory affords. Invariant: what
leaves the store for want of room is counted. Written by the deliveries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from hermes.event import Event


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One refused event: by which sink, why, after how many attempts, and when (Unix seconds)."""

    event: Event
    sink: str
    reason: str
    attempts: int
    rejected_at: float


class DeadLetters(Protocol):
    """Where dead letters go."""

    evicted: int

    def add(self, letter: DeadLetter) -> None:
        """Keep a dead letter; never raises."""

    def __iter__(self) -> Iterator[DeadLetter]:
        """The letters that are kept, oldest first."""

    def __len__(self) -> int:
        """How many are kept."""


class MemoryDeadLetters:
    """The last ``max_letters`` dead letters, whose payloads and reasons have at most ``max_bytes`` together."""

    def __init__(self, max_letters: int, max_bytes: int = 64 * 2**20) -> None:
        self.evicted = 0
        self._max_letters = max_letters
        self._max_bytes = max_bytes
        self._bytes = 0
        self._letters: deque[tuple[DeadLetter, int]] = deque()

    def add(self, letter: DeadLetter) -> None:
        """Keep a dead letter; the oldest make room."""
        size = len(memoryview(letter.event.payload)) + len(letter.reason)
        self._letters.append((letter, size))
        self._bytes += size
        while len(self._letters) > self._max_letters or self._bytes > self._max_bytes:
            _, gone = self._letters.popleft()
            self._bytes -= gone
            self.evicted += 1

    def __iter__(self) -> Iterator[DeadLetter]:
        return (letter for letter, _ in self._letters)

    def __len__(self) -> int:
        return len(self._letters)
