"""The store of dead letters in memory: bounded, gone with the process, all that DURABILITY=memory affords."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import trio

from hermes.dead_letters.contract import DeadLetter, Selection
from hermes.event import Event


class MemoryDeadLetters:
    """The last ``max_letters`` dead letters, whose payloads and reasons have at most ``max_bytes`` together."""

    def __init__(self, max_letters: int, max_bytes: int = 64 * 2**20) -> None:
        self.evicted = 0
        self._max_letters = max_letters
        self._max_bytes = max_bytes
        self._bytes = 0
        self._next = 1
        self._letters: dict[int, DeadLetter] = {}  # by number, oldest first
        self._numbers: dict[tuple[object, ...], int] = {}

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters; the oldest make room."""
        await trio.lowlevel.checkpoint()
        for letter in letters:
            number = self._numbers.get(_identity(letter))
            if number is not None:
                self._replace(replace(letter, number=number))
                continue
            self._numbers[_identity(letter)] = self._next
            self._letters[self._next] = replace(letter, number=self._next)
            self._bytes += _size(letter)
            self._next += 1
        while len(self._letters) > self._max_letters or self._bytes > self._max_bytes:
            self._forget(next(iter(self._letters)))
            self.evicted += 1

    async def page(self, selection: Selection, *, after: int = 0, limit: int = 100) -> list[DeadLetter]:
        """The first ``limit`` letters that match and have a number above ``after``, in the order of their numbers."""
        await trio.lowlevel.checkpoint()
        return list(islice((letter for letter in self._select(selection) if letter.number > after), limit))

    async def count(self, selection: Selection) -> int:
        """How many letters match."""
        await trio.lowlevel.checkpoint()
        return sum(1 for _ in self._select(selection))

    async def remove(self, numbers: Sequence[int]) -> int:
        """Forget these letters for good; return how many of them there were."""
        await trio.lowlevel.checkpoint()
        known = [number for number in dict.fromkeys(numbers) if number in self._letters]
        for number in known:
            self._forget(number)
        return len(known)

    async def amend(self, letters: Sequence[DeadLetter]) -> None:
        """Write reason, attempts and time of letters that were refused again, by their numbers; gone ones stay gone."""
        await trio.lowlevel.checkpoint()
        for letter in letters:
            if letter.number in self._letters:
                self._replace(letter)

    def __iter__(self) -> Iterator[DeadLetter]:
        return iter(self._letters.values())

    def __len__(self) -> int:
        return len(self._letters)

    def _select(self, selection: Selection) -> Iterator[DeadLetter]:
        wanted = None if selection.numbers is None else frozenset(selection.numbers)
        part = (selection.reason or "").lower()
        for number, letter in self._letters.items():
            if (
                (wanted is None or number in wanted)
                and selection.sink in (None, letter.sink)
                and selection.type in (None, letter.event.type)
                and part in letter.reason.lower()
                and (selection.since is None or letter.rejected_at >= selection.since)
            ):
                yield letter

    def _replace(self, letter: DeadLetter) -> None:
        self._bytes += _size(letter) - _size(self._letters[letter.number])
        self._letters[letter.number] = letter

    def _forget(self, number: int) -> None:
        letter = self._letters.pop(number)
        del self._numbers[_identity(letter)]
        self._bytes -= _size(letter)


def _identity(letter: DeadLetter) -> tuple[object, ...]:
    event: Event = letter.event
    return letter.sink, event.id, event.user_id, event.type, event.timestamp, bytes(event.payload)


def _size(letter: DeadLetter) -> int:
    return len(memoryview(letter.event.payload)) + len(letter.reason)
