"""The messages of a group that are done: every offset below a watermark, and a byte for each of some offsets above.

Invariants: a step costs the same, whatever the number of messages; a row of done messages takes no memory to speak of,
so that one message at the bottom that stays does not make a million later ones expensive. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_BLOCK = 1024


class Done:
    """Which offsets are done.

    >>> done = Done(0)
    >>> done.add(2), done.add(0), done.watermark, list(done.ranges())
    (None, None, 1, [(2, 3)])
    >>> done.add(1), done.watermark, list(done.ranges())
    (None, 3, [])
    """

    __slots__ = ("_full", "_partial", "watermark")

    def __init__(self, watermark: int, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self.watermark = watermark
        """Every offset below is done, and this offset is not."""
        # The offsets above the watermark, in blocks: those that are done as a whole, and for the others a byte for each
        # offset, 1 if it is done. In a block that lacks all is open. Bytes below the watermark are of no account.
        self._full: set[int] = set()
        self._partial: dict[int, bytearray] = {}
        for start, end in ranges:
            self._add_range(start, end)

    def add(self, offset: int) -> None:
        """Mark an offset that is not done."""
        if offset == self.watermark:
            # Acknowledgements in the order of the messages need no block of bytes.
            if self._partial or self._full:
                self._pass(offset)
            else:
                self.watermark = offset + 1
            return
        number = offset // _BLOCK
        block = self._partial.get(number)
        if block is None:
            block = self._partial[number] = bytearray(_BLOCK)
        block[offset % _BLOCK] = 1
        # A number in the place of its bytes: a long row of done messages would else take a byte for each.
        if 0 not in block:
            del self._partial[number]
            self._full.add(number)

    def _add_range(self, start: int, end: int) -> None:
        while start < end:
            number, place = divmod(start, _BLOCK)
            length = min(end - start, _BLOCK - place)
            if length == _BLOCK:
                self._full.add(number)
            else:
                block = self._partial.setdefault(number, bytearray(_BLOCK))
                block[place : place + length] = b"\x01" * length
            start += length

    def _pass(self, offset: int) -> None:
        """Move the watermark beyond ``offset`` and the done offsets that follow; forget the blocks below."""
        number, place = divmod(offset + 1, _BLOCK)
        # The loop begins at the next block: the block that the watermark leaves would stay for ever.
        if not place:
            self._partial.pop(number - 1, None)
        while number in self._partial or number in self._full:
            # A full block has no bytes, and in no bytes is no open offset.
            block = self._partial.get(number, b"")
            if (first_open := block.find(0, place)) >= 0:
                place = first_open
                break
            self._partial.pop(number, None)
            self._full.discard(number)
            number, place = number + 1, 0
        self.watermark = number * _BLOCK + place

    def raise_to(self, offset: int) -> None:
        """Mark every offset below ``offset``. A lower one than the watermark changes nothing."""
        if offset <= self.watermark:
            return
        # Whichever is less, the blocks in between or the blocks that are there: the retention may pass over a million
        # messages.
        passed: Iterable[int] = range(self.watermark // _BLOCK, offset // _BLOCK)
        if offset - self.watermark > _BLOCK * (len(self._partial) + len(self._full)):
            passed = [number for number in (*self._partial, *self._full) if number < offset // _BLOCK]
        for number in passed:
            self._partial.pop(number, None)
            self._full.discard(number)
        self._pass(offset - 1)

    def copy(self) -> Done:
        """The same offsets, in a set of their own."""
        done = Done(self.watermark)
        done._full = self._full.copy()
        # Unlike the rows of messages, the bytes of a block change in place.
        done._partial = {number: block[:] for number, block in self._partial.items()}
        return done

    def ranges(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges above the watermark, lowest first, each from its first offset to the one after its last."""
        start = end = self.watermark
        for number in sorted((*self._partial, *self._full)):
            block = self._partial.get(number, b"\x01" * _BLOCK)
            base = number * _BLOCK
            # Below the watermark a byte may be 0 though its message is done: `add` and `raise_to` moved beyond without
            # a write.
            place = max(0, self.watermark - base)
            while (first := block.find(1, place)) >= 0:
                place = block.find(0, first)
                if place < 0:
                    place = _BLOCK
                # If they are equal, the row goes on from the block before.
                if base + first > end:
                    if start < end:
                        yield start, end
                    start = base + first
                end = base + place
        if start < end:
            yield start, end

    def __contains__(self, offset: int) -> bool:
        """Whether an offset is done."""
        if offset < self.watermark or offset // _BLOCK in self._full:
            return True
        block = self._partial.get(offset // _BLOCK)
        return block is not None and block[offset % _BLOCK] == 1
