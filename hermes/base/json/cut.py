"""Cuts a large JSON body into bodies of the same form, each small enough to be decoded in a few milliseconds.

A decoder in C blocks the loop until its whole body is decoded. So a large body is cut between two elements of its
array, and each piece is decoded by itself. The place of a cut is guessed, and a decoder proves the guess: a valid array
up to there ends there. If the proof fails, as within a large element or beside a mistake, brackets and quotes are
counted.

Invariants: the pieces hold every element, in order. Between two yielded items at most some milliseconds pass, whatever
the bytes are, except while the end of a long string is searched. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass

import msgspec
from msgspec import Raw

from hermes.base.json.elements import STRING
from hermes.base.json.long_values import Slim, hide_long_values
from hermes.base.json.rules import JUDGED, MAX_NESTING, TOO_DEEP, UNDECODABLE, BadBody, without_mark
from hermes.base.json.value_ends import OPENING, Ends, ends_early, expect_end, guess_end, malformed, skip_space

AT_ONCE = JUDGED
"""The longest body that is decoded at once, in bytes. A `Cutter` judges the contents of a longer body."""

# Brackets counted in one step: one millisecond.
_BRACKETS = 4096
# Bytes of one step through the members of an object. The shortest members have 5 bytes: two milliseconds.
_MEMBERS_BYTES = 4096
# Bytes that the elements of one piece may have together with all that each of them shares: an event holds both.
_MOST_REPEATED = 2**22
_COMMAS_AN_OBJECT = 4
# The endings of an element, and the number of attempts with each. Most elements are objects.
_GUESSES = ((b"},", 6), (b"],", 2), (b",", 2))
_WHITESPACE = b" \t\r\n"
_BRACE, _BRACKET = b"{["

# Possessive quantifiers never backtrack, so a hostile text cannot make a match slow.
_match_name = re.compile(rb"(%b)[ \t\r\n]*+:" % STRING, re.DOTALL).match
# `Raw`: the decoder checks the whole syntax and makes no objects.
_decode_raw = msgspec.json.Decoder(Raw).decode
_decode_name = msgspec.json.Decoder(str).decode


@dataclass(frozen=True, slots=True)
class Refused:
    """Replaces an element that is not decoded: ``error`` is the reason."""

    error: str


Pieces = Iterator[bytes | Slim | Refused | None]
"""Bodies, bodies without their long values, refused elements, and None: a moment at which other tasks may run."""

Path = tuple[tuple[str, ...], ...]
"""The members that lead through objects and arrays of objects to the elements, each with all of its names."""

_Steps = Generator[bytes | Slim | Refused | None, None, int]


def cut_lines(body: bytes, size: int) -> Pieces:
    r"""Cut newline-delimited JSON into pieces of about ``size`` bytes. A long line that is not JSON is refused alone.

    >>> list(cut_lines(b'{"n":1}\n{"n":2}\n{"n":3}\n', size=16))
    [b'{"n":1}\n{"n":2}\n', b'{"n":3}\n']
    """
    body = without_mark(body)
    position = 0
    while position < len(body):
        # The last line that ends within the piece; else the end of a line that is longer than a piece.
        end = body.rfind(b"\n", position, position + size) + 1
        end = end or body.find(b"\n", position + size) + 1 or len(body)
        if end - position <= AT_ONCE:
            yield body[position:end]
        else:
            yield from _judge_line(body[position:end].strip(_WHITESPACE), size)
        position = end


def _judge_line(line: bytes, size: int) -> Pieces:
    # A line of blanks alone has no event, but took time to strip.
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

    ``size`` is about the bytes of a piece. ``most_shared`` bounds the bytes that every piece repeats, ``most_element``
    an element, and ``most_objects`` the objects in either, if an element is larger than a piece; 0: no bound.

    ::

        for piece in Cutter(size=65536).cut_along(body, (("resourceSpans",), ("scopeSpans",))):
            ...  # bytes to decode, a Refused element, or None: let other tasks run
    """

    def __init__(self, size: int, *, most_shared: int = 0, most_element: int = 0, most_objects: int = 0) -> None:
        self._size = size
        self._most_shared = most_shared
        self._most_element = most_element
        self._most_objects = most_objects

    def cut_along(self, body: bytes, path: Path) -> Pieces:
        """Cut the array that ``path`` leads to from the outer object, through arrays of objects. Raises `BadBody`.

        Every piece has the other members of the objects along the path.
        """
        body = without_mark(body)
        start = skip_space(body, 0)
        if body[start : start + 1] != b"{":
            yield from self.judge(body)
            return
        end = yield from self._cut_object(Ends(body, self._size), body, start, path, b"", b"")
        expect_end(body, end)

    def judge(self, body: bytes) -> Pieces:
        """Yield the body as one piece, or a refusal if it is nested too deeply.

        The decoder does not search a long text for its depth, so the search is here.
        """
        start = skip_space(body, 0)
        if len(body) > AT_ONCE and body[start : start + 1] == b"{":
            yield (yield from hide_long_values(body, self._size))
            return
        if len(body) > AT_ONCE and body[start : start + 1] == b"[":
            end, deepest = yield from Ends(body, self._size).walk(start)
            expect_end(body, end)
            if deepest > MAX_NESTING + 1:
                yield Refused(TOO_DEEP)
                return
        yield body

    def cut_array(self, body: bytes, start: int) -> _Steps:
        """Cut the array whose first element begins at ``start``; returns the position of its closing bracket."""
        return (yield from self._cut_elements(Ends(body, self._size), body, start, (), b"[", b"]"))

    def _cut_elements(self, ends: Ends, text: bytes, position: int, path: Path, prefix: bytes, suffix: bytes) -> _Steps:
        """Cut the elements from ``position`` on; returns the position of the array's closing bracket."""
        # The shortest element is an empty object behind a comma.
        size = min(self._size, max(1, _MOST_REPEATED // max(1, len(prefix))) * len(b"{},"))
        position = skip_space(text, position)
        if text[position : position + 1] == b"]":
            # An empty array is a piece too: a decoder has to judge the members beside it.
            yield prefix + suffix
            return position
        while True:
            stop = yield from self._guess(text, position, size)
            if stop < 0:
                stop = yield from self._count(ends, text, position, size)
            # The common case: the piece was proved valid, or counted, and is decoded by the caller.
            if stop - position <= size:
                yield prefix + text[position:stop] + suffix
            elif path and text[position] == _BRACE:
                yield from self._cut_object(ends, text, position, path, prefix, suffix)
            # Only without a bound on an element: a bounded one is refused or decoded whole, below.
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

    def _guess(self, text: bytes, position: int, size: int) -> Generator[None, None, int]:
        """Return the end of an element, at most a piece away; -1 if the brackets must be counted."""

        def is_array(end: int) -> bool:
            try:
                # The proof: if this is a valid array, its last element ends at `end`.
                _decode_raw(b"[%b]" % text[position:end])
            # The errors of invalid input alone: nothing else may pass for a wrong guess.
            except UNDECODABLE:
                return False
            return True

        return (yield from guess_end(text, position, size, _GUESSES, is_array))

    def _count(self, ends: Ends, text: bytes, position: int, size: int) -> Generator[None, None, int]:
        """Return the end of the last element that fits into a piece, or of the first element."""
        # Elements are gathered until a piece is full, so that a body of small elements makes few pieces.
        last, start, count = 0, position, 0
        while True:
            end = yield from ends.find(position)
            if end - start > size:
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
        """Return the reason for not decoding an element that is larger than a piece; empty if it may be decoded."""
        # The array around the element adds one level, which the limit does not count.
        deepest = (yield from ends.walk(start))[1] if text[start] in OPENING else 0
        if deepest > MAX_NESTING + 1:
            return TOO_DEEP
        if self._most_element and end - start > self._most_element:
            return f"it is larger than {self._most_element} bytes"
        if self._most_objects:
            most_commas = _COMMAS_AN_OBJECT * self._most_objects
            if text.count(b"{", start, end) > self._most_objects or (
                # An array of numbers has no brace. A comma within a text does not count, but takes longer to find.
                text.count(b",", start, end) > most_commas and (yield from ends.count_commas(start, end)) > most_commas
            ):
                return f"it has more than {self._most_objects} values"
        return ""

    def _cut_object(self, ends: Ends, text: bytes, start: int, path: Path, prefix: bytes, suffix: bytes) -> _Steps:
        """Cut along ``path`` from the object at ``start``; return the position of its end."""
        shared: list[bytes] = []
        size = 0
        found, leading = -1, path[0][0]
        position = skip_space(text, start + 1)
        pause = position + _MEMBERS_BYTES
        while text[position : position + 1] != b"}":
            if position > pause:
                pause = position + _MEMBERS_BYTES
                yield None
            # Bounded, because the expression would match a name of megabytes in one step.
            name = _match_name(text, position, position + AT_ONCE)
            if name is None:
                raise malformed(f"expected a member of an object, with a name of at most {AT_ONCE} bytes", position)
            value = skip_space(text, name.end())
            end = yield from ends.find(value)
            if (read := _read_name(name[1])) not in path[0]:
                shared.append(text[position:end])
                # One more, for the comma with which the members are joined.
                size += end + 1 - position
                # Checked while reading, before the members are joined: the joined bytes would be repeated in every
                # piece.
                if size > self._most_shared > 0 and end - start > AT_ONCE:
                    raise self._shares_too_much(leading)
            elif found >= 0:
                # A decoder would keep the last one only, and the events of the others would be lost without a word.
                raise BadBody(f"an object has more than one member {path[0][0]!r}")
            else:
                found, leading = value, read
            position = skip_space(text, end)
            mark = text[position : position + 1]
            # A decoder of the whole body would find the same fault; the cutter has to, since no piece holds this byte.
            if mark not in {b",", b"}"}:
                raise malformed("expected `,` or `}`", position) if mark else ends_early(position)
            if mark == b",":
                position = skip_space(text, position + 1)
        if found < 0 or text[found] != _BRACKET:
            # A small object without the member is left to the decoder, whose message names the missing field.
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
    """Return a member's name without its quotes; an escape may stand for a letter of the name."""
    if b"\\" not in name:
        # Without an escape, the usual case, a decoder is not needed.
        return name[1:-1].decode(errors="replace")
    try:
        return _decode_name(name)
    except UNDECODABLE:
        return ""
