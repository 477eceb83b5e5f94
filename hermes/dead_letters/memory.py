"""The store of dead letters in memory, for DURABILITY=memory: bounded, and lost when the process ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import trio

from hermes.dead_letters.contract import PAGE_BYTES, PAGE_LETTERS, DeadLetter, Selection, Source
from hermes.dead_letters.evictions import Evictions
from hermes.dead_letters.rows import identity, tidy


class MemoryDeadLetters:
    """Keeps the last ``max_letters`` dead letters; their bodies and reasons together have at most ``max_bytes``.

    >>> trio.run(MemoryDeadLetters(max_letters=1000).count, Selection())
    {}
    """

    def __init__(self, max_letters: int, max_bytes: int = 64 * 2**20) -> None:
        self.evictions = Evictions()
        self._max_letters = max_letters
        self._max_bytes = max_bytes
        self._bytes = 0
        # Not from the letters that are there: the number of a letter that has left is never given again.
        self._next = 1
        self._letters: dict[int, DeadLetter] = {}  # by number, oldest first
        self._numbers: dict[tuple[Source, bytes], int] = {}  # by source and identity

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Keep letters; remove the oldest letters if there is no room."""
        # The only checkpoint comes first: from here on no other task sees the store half changed.
        await trio.lowlevel.checkpoint()
        last = self._next - 1
        for letter in letters:
            key = _key(letter)
            number = self._numbers.get(key)
            if number is not None:
                # Under its old number, in its old place: the order of the letters is that of their numbers.
                self._replace(replace(letter, number=number, reason=tidy(letter.reason)))
                continue
            self._numbers[key] = self._next
            self._letters[self._next] = kept = replace(letter, number=self._next, reason=tidy(letter.reason))
            self._bytes += _size(kept)
            self._next += 1
        evicted = []
        while len(self._letters) > self._max_letters or self._bytes > self._max_bytes:
            # Even a letter of this call leaves if it does not fit alone, and is counted: the bound always holds.
            letter = next(iter(self._letters.values()))
            self._forget(letter.number)
            evicted.append((letter.number, letter.source))
        self.evictions.add(len(letters), last, self._next - 1, evicted)

    async def page(
        self, selection: Selection, *, after: int = 0, limit: int = PAGE_LETTERS, max_bytes: int = PAGE_BYTES
    ) -> list[DeadLetter]:
        """The first letters that match and have a number above ``after``, in the order of their numbers."""
        await trio.lowlevel.checkpoint()
        letters: list[DeadLetter] = []
        for letter in self._select(selection):
            if letter.number > after:
                max_bytes -= len(letter.body)
                # A first letter larger than the page is returned nevertheless, or a reader would never get past it.
                if len(letters) == limit or (letters and max_bytes < 0):
                    break
                letters.append(letter)
        return letters

    async def count(self, selection: Selection) -> Mapping[Source, int]:
        """How many letters match, by source."""
        await trio.lowlevel.checkpoint()
        return dict(sorted(Counter(letter.source for letter in self._select(selection)).items()))

    async def last(self) -> int:
        """The highest number of a letter in the store; 0 if the store is empty."""
        await trio.lowlevel.checkpoint()
        # A dict keeps the order in which its keys came, so the last key is the highest number.
        return next(reversed(self._letters), 0)

    async def amend(self, letters: Sequence[DeadLetter]) -> None:
        """Update reason, attempts and time of letters that were refused again. Ignores numbers that are gone."""
        await trio.lowlevel.checkpoint()
        for letter in letters:
            kept = self._letters.get(letter.number)
            # Others may have evicted or purged the letter since the replay read it.
            if kept is not None:
                self._replace(
                    replace(kept, reason=tidy(letter.reason), attempts=letter.attempts, rejected_at=letter.rejected_at)
                )

    async def remove(self, selection: Selection) -> int:
        """Delete the letters that match; return their count."""
        await trio.lowlevel.checkpoint()
        # A list: the selection walks the dictionary that is changed below.
        found = [letter.number for letter in self._select(selection)]
        for number in found:
            self._forget(number)
        return len(found)

    def __iter__(self) -> Iterator[DeadLetter]:
        return iter(self._letters.values())

    def __len__(self) -> int:
        return len(self._letters)

    def _select(self, selection: Selection) -> Iterator[DeadLetter]:
        # A set, because a selection may have ten thousand numbers, each looked for in every letter.
        wanted = None if selection.numbers is None else frozenset(selection.numbers)
        part = None if selection.reason is None else _fold(selection.reason)
        for number, letter in self._letters.items():
            if (
                (wanted is None or number in wanted)
                and (selection.up_to is None or number <= selection.up_to)
                and selection.part in (None, letter.source.part)
                and selection.name in (None, letter.source.name)
                # As sets of pairs: every wanted fact is there, with exactly its value.
                and selection.facts.items() <= letter.facts.items()
                and (part is None or part in _fold(letter.reason))
                and (selection.since is None or letter.rejected_at >= selection.since)
            ):
                yield letter

    def _replace(self, letter: DeadLetter) -> None:
        self._bytes += _size(letter) - _size(self._letters[letter.number])
        self._letters[letter.number] = letter

    def _forget(self, number: int) -> None:
        letter = self._letters.pop(number)
        del self._numbers[_key(letter)]
        self._bytes -= _size(letter)


def _key(letter: DeadLetter) -> tuple[Source, bytes]:
    return letter.source, identity(letter)


def _fold(text: str) -> bytes:
    # bytes.lower() changes ASCII letters alone, as SQLite's lower() does: the stores find the same letters.
    return text.encode().lower()


def _size(letter: DeadLetter) -> int:
    # The reason counts too: with a small body, a reason of 2,000 characters takes most of the room.
    return len(letter.body) + len(letter.reason)
