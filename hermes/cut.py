"""Cuts a large JSON body into bodies of the same form, each so small that it is decoded in a few milliseconds.

A decoder in C keeps the loop for as long as its whole body takes. So a large body is cut where one element of its array
ends and the next begins, and each piece is decoded by itself. Where to cut is guessed, and a decoder proves the guess:
what is a valid array up to there ends there. Where that fails, as within a large element or beside a mistake, brackets
and quotes are counted. Invariants: the pieces hold every element, in order; what happens between two items that are
yielded takes some milliseconds at most, whatever the bytes are, but for finding the end of a long string. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import msgspec
from msgspec import Raw

from hermes.decode import JUDGED, MAX_NESTING, BadBody, without_mark
from hermes.elements import STRING
from hermes.ends import OPENING, Ends, ends_early, expect_end, malformed, skip_space
from hermes.proof import Slim, hide_long_values

AT_ONCE = JUDGED
"""The longest body that is decoded at once, in bytes. What is in a longer one was judged by a `Cutter`."""

_BRACKETS = 4096  # of one step of counting: one millisecond
_MEMBERS_BYTES = 4096  # of one step through the members of an object, the shortest of which take 5: two milliseconds
_GUESSES = ((b"},", 6), (b"],", 2), (b",", 2))  # what an element may end in, and how often to try
_WHITESPACE = b" \t\r\n"
_BRACE, _BRACKET = b"{["

_match_name = re.compile(rb"(%b)[ \t\r\n]*+:" % STRING, re.DOTALL).match
_decode_raw = msgspec.json.Decoder(Raw).decode
_decode_name = msgspec.json.Decoder(str).decode
_INVALID = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)


@dataclass(frozen=True, slots=True)
class Refused:
    """Stands for an element that is not decoded: ``error`` says why."""

    error: str


Pieces = Iterator[bytes | Slim | Refused | None]
"""Bodies, also without their long values, elements that are refused, and None: a moment to let others go on."""

Path = tuple[tuple[str, ...], ...]
"""The members, each by any of its names, that lead through objects and arrays of objects to the elements."""

_Steps = Generator[bytes | Slim | Refused | None, None, int]


def cut_lines(body: bytes, size: int) -> Pieces:
    """Cut newline-delimited JSON into pieces of about ``size`` bytes. A long line that is no JSON is refused alone."""
    body = without_mark(body)
    position = 0
    while position < len(body):
        end = body.rfind(b"\n", position, position + size) + 1
        end = end or body.find(b"\n", position + size) + 1 or len(body)
        if end - position <= AT_ONCE:
            yield body[position:end]
        else:
            yield from _judge_line(body[position:end].strip(_WHITESPACE), size)
        position = end


def _judge_line(line: bytes, size: int) -> Pieces:
    if not line:
        yield None
        return
    try:
        yield from Cutter(size).judge(line)
    except BadBody as error:
        yield Refused(str(error))


def cut_json(body: bytes, size: int) -> Pieces:
    """Cut an array of messages into pieces of about ``size`` bytes; one message is a piece. Raises `BadBody`."""
    body = without_mark(body)
    start = skip_space(body, 0)
    if body[start : start + 1] != b"[":
        yield from Cutter(size).judge(body)
        return
    end = yield from Cutter(size).cut_array(body, start + 1)
    expect_end(body, end + 1)


class Cutter:
    """Cuts along arrays that lie in objects.

    ``size`` is about the bytes of a piece. ``most_shared`` bounds what every piece repeats, ``most_element`` an
    element, and ``most_objects`` the objects in either, where it is larger than a piece; 0: no bound.
    """

    def __init__(self, size: int, *, most_shared: int = 0, most_element: int = 0, most_objects: int = 0) -> None:
        self._size = size
        self._most_shared = most_shared
        self._most_element = most_element
        self._most_objects = most_objects

    def cut_along(self, body: bytes, path: Path) -> Pieces:
        """Cut the array that ``path`` leads to from the outer object, through arrays of objects. Raises `BadBody`.

        Every piece has the other members of the objects on its way.
        """
        body = without_mark(body)
        start = skip_space(body, 0)
        if body[start : start + 1] != b"{":
            yield from self.judge(body)
            return
        end = yield from self._cut_object(Ends(body, self._size), body, start, path, b"", b"")
        expect_end(body, end)

    def judge(self, body: bytes) -> Pieces:
        """The body as one piece, unless it is nested too deeply: a long text is not searched for that when decoded."""
        start = skip_space(body, 0)
        if len(body) > AT_ONCE and body[start : start + 1] == b"{":
            yield (yield from hide_long_values(body, self._size))
            return
        if len(body) > AT_ONCE and body[start : start + 1] == b"[":
            end, deepest = yield from Ends(body, self._size).walk(start)
            expect_end(body, end)
            if deepest > MAX_NESTING + 1:
                yield Refused(f"JSON is nested too deeply: at most {MAX_NESTING} levels are taken")
                return
        yield body

    def cut_array(self, body: bytes, start: int) -> _Steps:
        """Cut the array whose first element begins at ``start``; returns the position of its closing bracket."""
        return (yield from self._cut_elements(Ends(body, self._size), body, start, (), b"[", b"]"))

    def _cut_elements(self, ends: Ends, text: bytes, position: int, path: Path, prefix: bytes, suffix: bytes) -> _Steps:
        """Cut the elements from ``position`` on; returns the position of the array's closing bracket."""
        position = skip_space(text, position)
        if text[position : position + 1] == b"]":
            yield prefix + suffix
            return position
        while True:
            stop = yield from self._guess(text, position)
            if stop < 0:
                stop = yield from self._count(ends, text, position)
            if stop - position <= self._size:
                yield prefix + text[position:stop] + suffix
            elif path and text[position] == _BRACE:
                yield from self._cut_object(ends, text, position, path, prefix, suffix)
            elif not path and not self._most_element and stop - position > AT_ONCE and text[position] == _BRACE:
                try:
                    slim = yield from hide_long_values(text[position:stop], self._size)
                except BadBody as wrong:
                    yield Refused(str(wrong))
                else:
                    yield Slim(prefix + slim.text + suffix, slim.hidden)
            else:
                error = yield from self._find_fault(ends, text, position, stop)
                yield Refused(error) if error else prefix + text[position:stop] + suffix
            position = skip_space(text, stop)
            mark = text[position : position + 1]
            if mark == b"]":
                return position
            if mark != b",":
                raise malformed("expected `,` or `]`", position) if mark else ends_early(position)
            position = skip_space(text, position + 1)

    def _guess(self, text: bytes, position: int) -> Generator[None, None, int]:
        """Where an element ends, at most a piece away; -1: it has to be counted."""
        for ending, times in _GUESSES:
            end = position + self._size
            for _ in range(times):
                end = text.rfind(ending, position, end)
                if end < 0:
                    break
                end += len(ending) - 1
                if end == position:
                    break
                try:
                    _decode_raw(b"[%b]" % text[position:end])
                except _INVALID:
                    yield None
                    continue
                return end
        return -1

    def _count(self, ends: Ends, text: bytes, position: int) -> Generator[None, None, int]:
        """Where the last element ends that fits into a piece, or the first."""
        last, start, count = 0, position, 0
        while True:
            end = yield from ends.find(position)
            if end - start > self._size:
                return last or end
            last = end
            position = skip_space(text, end)
            if text[position : position + 1] != b",":
                return last
            position = skip_space(text, position + 1)
            count += 1
            if count % _BRACKETS == 0:
                yield None

    def _find_fault(self, ends: Ends, text: bytes, start: int, end: int) -> Generator[None, None, str]:
        """Why an element that is larger than a piece is not decoded, if so."""
        deepest = (yield from ends.walk(start))[1] if text[start] in OPENING else 0
        if deepest > MAX_NESTING + 1:
            return f"JSON is nested too deeply: at most {MAX_NESTING} levels are taken"
        if self._most_element and end - start > self._most_element:
            return f"it is larger than {self._most_element} bytes"
        if self._most_objects and text.count(b"{", start, end) > self._most_objects:
            return f"it has more than {self._most_objects} values"
        return ""

    def _cut_object(self, ends: Ends, text: bytes, start: int, path: Path, prefix: bytes, suffix: bytes) -> _Steps:
        """Cut along ``path`` from the object at ``start``; returns where it ends."""
        shared: list[bytes] = []
        size = 0
        found, leading = -1, path[0][0]
        position = skip_space(text, start + 1)
        pause = position + _MEMBERS_BYTES
        while text[position : position + 1] != b"}":
            if position > pause:
                pause = position + _MEMBERS_BYTES
                yield None
            name = _match_name(text, position, position + AT_ONCE)
            if name is None:
                raise malformed(f"expected a member of an object, with a name of at most {AT_ONCE} bytes", position)
            value = skip_space(text, name.end())
            end = yield from ends.find(value)
            if (read := _read_name(name[1])) not in path[0]:
                shared.append(text[position:end])
                size += end + 1 - position
                if size > self._most_shared > 0 and end - start > AT_ONCE:
                    raise self._shares_too_much(leading)
            elif found >= 0:
                raise BadBody(f"an object has more than one member {path[0][0]!r}")
            else:
                found, leading = value, read
            position = skip_space(text, end)
            mark = text[position : position + 1]
            if mark not in {b",", b"}"}:
                raise malformed("expected `,` or `}`", position) if mark else ends_early(position)
            if mark == b",":
                position = skip_space(text, position + 1)
        if found < 0 or text[found] != _BRACKET:
            if position - start <= AT_ONCE:
                yield prefix + text[start : position + 1] + suffix
            elif prefix:
                yield Refused(f"expected a member {leading!r} that is an array")
            else:
                raise BadBody(f"expected a member {leading!r} that is an array")
            return position + 1
        members = b"".join([member + b"," for member in shared])
        if self._most_shared and len(members) > self._most_shared:
            raise self._shares_too_much(leading)
        if self._most_objects and members.count(b"{") > self._most_objects:
            raise BadBody(f"what the elements of {leading!r} share has more than {self._most_objects} values")
        prefix = b'%b{%b"%b":[' % (prefix, members, leading.encode())
        yield from self._cut_elements(ends, text, found + 1, path[1:], prefix, b"]}" + suffix)
        return position + 1

    def _shares_too_much(self, leading: str) -> BadBody:
        return BadBody(f"what the elements of {leading!r} share is larger than {self._most_shared} bytes")


def _read_name(name: bytes) -> str:
    """A member's name without its quotes; an escape may stand for a letter of it."""
    if b"\\" not in name:
        return name[1:-1].decode(errors="replace")
    try:
        return _decode_name(name)
    except _INVALID:
        return ""
