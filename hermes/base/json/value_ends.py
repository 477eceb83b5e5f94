"""Finds the ends of the values of a JSON text, by its brackets and quotes alone, a millisecond at a time.

Invariant: the end of a valid value is found exactly. An invalid value gets some end, or is refused, and a decoder
judges the value later. Between two pauses a bounded number of bytes and of brackets is read. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence

from hermes.base.json.elements import STRING, cut_off
from hermes.base.json.rules import BadBody

# Bytes of one step of an expression: half a millisecond.
_LIMIT = 128 * 2**10
# Brackets of one step of counting: one millisecond.
_BRACKETS = 4096
# A body of little but brackets would take seconds; ordinary JSON has far fewer than one in four bytes.
_FREE_BRACKETS = 400_000
_BYTES_A_BRACKET = 4
# The stack of open brackets takes memory for each level.
_MOST_LEVELS = 200_000
_QUOTE = ord('"')
OPENING = frozenset(b"[{")
"""The first bytes of an array and of an object."""

_skip_space = re.compile(rb"[ \t\r\n]*+").match
_skip_plain = re.compile(rb'[^"\[\]{}]*+(?:%b[^"\[\]{}]*+)*+' % STRING, re.DOTALL).match
_skip_text = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL).match
_find_strings = re.compile(STRING, re.DOTALL)
_skip_whole_strings = re.compile(rb'(?:[^"]++|%b)*+' % STRING, re.DOTALL).match
_skip_scalar = re.compile(rb'[^",\[\]{} \t\r\n]*+').match


def guess_end(
    text: bytes, position: int, size: int, guesses: Sequence[tuple[bytes, int]], is_valid: Callable[[int], bool]
) -> Generator[None, None, int]:
    """Return the end of an item that is at most ``size`` bytes from ``position``; -1 if no guess is right.

    An item ends before a comma, so the last commas in reach are tried: ``guesses`` are endings, each with the number of
    attempts. ``is_valid(end)`` proves a guess by everything from ``position`` to ``end``. Each wrong guess ends a step.
    """
    for ending, times in guesses:
        end = position + size
        for _ in range(times):
            end = text.rfind(ending, position, end)
            if end < 0:
                break
            end += len(ending) - 1
            # An item has at least one byte, so a comma at the very beginning ends none.
            if end == position:
                break
            if is_valid(end):
                return end
            yield None
    return -1


class Ends:
    """Finds the ends of a text's values. Walks a long array or object once, with all values inside.

    ``long`` is the size in bytes from which the end of an inner value is remembered. ::

        ends = Ends(b'[1, {"a": 2}]', long=1024)
        end, depth = yield from ends.walk(0)  # 13, 2
    """

    def __init__(self, text: bytes, long: int) -> None:
        self._text = text
        self._long = long
        self._known: dict[int, int] = {}
        # One budget for all calls: a caller asks for many values of the same text.
        self._brackets = _FREE_BRACKETS + len(text) // _BYTES_A_BRACKET

    def find(self, position: int) -> Generator[None, None, int]:
        """Return the end of the value at ``position``. Raises `BadBody`."""
        text = self._text
        first = text[position : position + 1]
        if first in {b"[", b"{"}:
            known = self._known.get(position, 0)
            # A long value was walked before, with the value around it.
            return known or (yield from self.walk(position))[0]
        if first == b'"':
            return (yield from _find_end_of_string(text, position))
        end = _skip_scalar(text, position, position + _LIMIT).end()  # type: ignore[union-attr]
        if end == position + _LIMIT:
            raise malformed(f"a number or word has more than {_LIMIT} bytes", position)
        if end == position:
            raise malformed("a value is missing", position) if first else ends_early(position)
        return end

    def is_long(self, position: int) -> bool:
        """Whether a long array or object begins at ``position``; known only within a value that `walk` has read."""
        return position in self._known

    def count_commas(self, start: int, end: int) -> Generator[None, None, int]:
        """Return how many commas from ``start`` to ``end`` are in no string. Raises `BadBody`."""
        count = 0
        while start < end:
            limit = min(start + _LIMIT, end)
            stop = _skip_whole_strings(self._text, start, limit).end()  # type: ignore[union-attr]
            count += _find_strings.sub(b"", self._text[start:stop]).count(b",")
            # The expression has stopped at a string that ends beyond the limit.
            if stop < limit:
                stop = yield from _find_end_of_string(self._text, stop)
            start = stop
            yield None
        return count

    def walk(self, position: int) -> Generator[None, None, tuple[int, int]]:
        """Return the end and the depth of the array or object at ``position``. Raises `BadBody`."""
        text, size = self._text, len(self._text)
        begun: list[int] = []
        deepest = count = 0
        pause = position + _LIMIT
        while True:
            limit = position + _LIMIT
            position = _skip_plain(text, position, limit).end()  # type: ignore[union-attr]
            if position >= size:
                raise ends_early(size)
            if position < limit:
                mark = text[position]
                if mark == _QUOTE:
                    position = yield from _find_end_of_string(text, position)
                elif mark in OPENING:
                    begun.append(position)
                    position += 1
                else:
                    deepest = max(deepest, len(begun))
                    # Of either kind: the decoder finds a `]` that ends an object.
                    start = begun.pop()
                    position += 1
                    # Only long values are remembered: every small one would take more memory than the body.
                    if position - start > self._long:
                        self._known[start] = position
                    if not begun:
                        return position, deepest
            count += 1
            # Bytes or brackets, whichever comes first: both take time.
            if count == _BRACKETS or position > pause:
                self._brackets -= count
                if self._brackets < 0 or len(begun) > _MOST_LEVELS:
                    raise BadBody(
                        "JSON is nested too deeply, or in too many tiny pieces for its size: send it in parts of 1 MiB"
                    )
                count, pause = 0, position + _LIMIT
                yield None


def _find_end_of_string(text: bytes, position: int) -> Generator[None, None, int]:
    position += 1
    while True:
        limit = position + _LIMIT
        end = _skip_text(text, position, limit).end()  # type: ignore[union-attr]
        if end < limit and text[end : end + 1] == b'"':
            return end + 1
        # No progress means that the text ends in a backslash.
        if end >= len(text) or end == position:
            raise ends_early(len(text))
        # An escape that the limit would cut in two is read whole in the next step.
        position = end
        yield None


def skip_space(text: bytes, position: int) -> int:
    """Return the end of white space. Raises `BadBody` for more white space than can be skipped at once."""
    end: int = _skip_space(text, position, position + _LIMIT).end()  # type: ignore[union-attr]
    if end == position + _LIMIT:
        raise malformed(f"there are more than {_LIMIT} bytes of white space", position)
    return end


def expect_end(text: bytes, position: int) -> None:
    """Raise `BadBody` if more than white space follows."""
    position = skip_space(text, position)
    if position < len(text):
        raise malformed("trailing characters", position)


def malformed(what: str, position: int) -> BadBody:
    """Return the error for a text that is not JSON."""
    return BadBody(f"JSON is malformed: {what} (byte {position})")


def ends_early(position: int) -> BadBody:
    """Return the error for a text that ends before its value does."""
    return BadBody(f"JSON is malformed: {cut_off(position)}")
