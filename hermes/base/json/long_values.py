"""Proves the long values of a JSON message in pieces, and decodes the message without them. Pure.

Each long value among the members of a message is proved in pieces, by the decoder that judges whole messages. Then the
message is decoded with a short stand-in of the same kind in the place of the value, and `Slim.restore` puts the value
back into the payload.

Invariants: a proved value is valid JSON as one decoder call would judge the value, UTF-8 and without U+0000; between
two pauses some milliseconds pass at most; a message has a stand-in only in the place of a value.

    slim = yield from hide_long_values(text, size)
    event = decode(slim.text)
    payload = slim.restore(event.payload)
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from hashlib import sha256
from os import urandom

import msgspec
from msgspec import Raw

from hermes.base.json.elements import STRING
from hermes.base.json.rules import MAX_NESTING, TOO_DEEP, UNDECODABLE, BadBody, check_text, describe_error
from hermes.base.json.value_ends import OPENING, Ends, expect_end, guess_end, skip_space

MOST_SLIM = 256 * 2**10
"""The most bytes of a message without its long values. The decoder reads them in one call."""

# Bytes of a long string that are proved in one step: one call of the decoder for 10 MiB takes 15 to 40 ms.
_STRING_BYTES = 64 * 2**10
# Longer than any id may be, as the string is: in the place of an id both are refused, or become a digest.
_STAND_IN_BYTES = 300
# The endings of an item, and the number of attempts with each.
_GUESSES = ((b"},", 4), (b"],", 2), (b'",', 2), (b",", 2))
_MEMBERS = 1024  # of one step through the members of a message
_CLOSING_OF = {0x5B: 0x5D, 0x7B: 0x7D}
_QUOTE, _BRACE, _COMMA = b'"{,'
_match_name = re.compile(rb"(%b)[ \t\r\n]*+:" % STRING, re.DOTALL).match
# Whole characters and escapes, so that a piece of a string can be judged as a string; half a pair stands alone.
_skip_characters = re.compile(
    rb'(?:[^"\\]++|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\[^u])*+',
    re.DOTALL,
).match
# Bytes. A name is matched in one step, which must stay short.
_LONGEST_NAME = 128 * 2**10
_decode_raw = msgspec.json.Decoder(Raw).decode

_Steps = Generator[None, None, int]


# A place in a piece, which would mislead: the message gives the place in the body instead.
_PLACE = re.compile(r" \(byte \d+\)")
UNKNOWN_TO_CLIENTS = urandom(12).hex().encode()
"""A random part of every stand-in, so that no client can write a stand-in."""


class BadValue(BadBody):
    """A message has a fault inside, although its brackets are in order."""


@dataclass(frozen=True, slots=True)
class Slim:
    """A message with stand-ins for its long values. ``hidden`` has each stand-in with the text of the value.

    >>> Slim(b'{"id":"1","payload":["x"]}', ((b'["x"]', b"[1, 2, 3]"),)).restore(b'["x"]')
    b'[1, 2, 3]'
    """

    text: bytes
    hidden: tuple[tuple[bytes, bytes | memoryview], ...]

    def restore(self, payload: bytes) -> bytes:
        """A payload made from the message, with the values in the places of their stand-ins."""
        parts: list[bytes | memoryview] = []
        for stand_in, value in self.hidden:
            before, found, after = payload.partition(stand_in)
            # A value that is no part of the payload, such as a long member beside it, has no stand-in there.
            if found:
                parts += (before, value)
                payload = after
        return b"".join((*parts, payload))


def hide_long_values(text: bytes, size: int) -> Generator[None, None, Slim]:
    """Return a message, which is one JSON object, without its values of more than ``size`` bytes.

    Raises `BadBody` for a text that is not an object, and `BadValue` for an object with a fault.
    """
    ends = Ends(text, size)
    start = skip_space(text, 0)
    end, deepest = yield from ends.walk(start)
    expect_end(text, end)
    if deepest > MAX_NESTING + 1:
        raise BadBody(TOO_DEEP)
    return (yield from _Prover(ends, text, size).hide(start))


class _Prover:
    """Judges the values of one text, whose long arrays and objects `Ends` has walked."""

    def __init__(self, ends: Ends, text: bytes, size: int) -> None:
        self._ends = ends
        self._text = text
        self._size = size

    def hide(self, start: int) -> Generator[None, None, Slim]:
        """Put stand-ins in the place of the long values of the object at ``start``."""
        text = self._text
        left: list[bytes] = []
        hidden: list[tuple[bytes, bytes | memoryview]] = []
        # A copy of many megabytes takes some milliseconds.
        view = memoryview(text)
        begin, position, count = 0, skip_space(text, start + 1), 0
        while text[position : position + 1] != b"}":
            count += 1
            if count % _MEMBERS == 0:
                yield None
            value = self._value_of_member(position)
            end = yield from self._ends.find(value)
            if end - value > self._size:
                stand_in = yield from self._prove_and_replace(value, end, len(hidden))
                left += (text[begin:value], stand_in)
                hidden.append((stand_in, view[value:end]))
                begin = end
            position = skip_space(text, end)
            if text[position] == _COMMA:
                position = skip_space(text, position + 1)
            elif text[position : position + 1] != b"}":
                raise _wrong("expected `,` or `}`", position)
        left.append(text[begin:])
        slim = b"".join(left)
        if len(slim) > MOST_SLIM:
            raise BadValue(f"a message may have {MOST_SLIM} bytes beside its long values")
        stand_ins = [stand_in for stand_in, _ in hidden]
        # A stand-in for a string is a digest, which a client can compute: found once too often, its place would be
        # unknown.
        if any(slim.count(stand_in) != stand_ins.count(stand_in) for stand_in in stand_ins):
            raise BadValue("a text of a message is the digest of another")
        return Slim(slim, tuple(hidden))

    def _prove_and_replace(self, start: int, end: int, number: int) -> Generator[None, None, bytes]:
        text = self._text
        if text[start] in OPENING:
            yield from self._prove(start)
            # Of the same kind as the value, so that the decoder refuses the message for the same reasons.
            mark = b"%b-%d" % (UNKNOWN_TO_CLIENTS, number)
            return b'{"%b":0}' % mark if text[start] == _BRACE else b'["%b"]' % mark
        yield from self._prove_string(start, end)
        # By the content: where a long id is replaced by a digest of its text, equal ids still give equal digests.
        digest = sha256()
        for begin in range(start, end, _STRING_BYTES):
            digest.update(text[begin : min(begin + _STRING_BYTES, end)])
            yield None
        # A digest has 64 hexadecimal digits.
        return b'"%b"' % (digest.hexdigest().encode() * (_STAND_IN_BYTES // 64 + 1))

    def _prove(self, position: int) -> Generator[None, None, None]:
        """Judge the long array or object at ``position``. Raises `BadBody`."""
        text = self._text
        begun = [text[position]]
        position, fresh = skip_space(text, position + 1), True
        while True:
            yield None
            if text[position] == _CLOSING_OF[begun[-1]]:
                begun.pop()
                if not begun:
                    return
                position, fresh = skip_space(text, position + 1), False
                continue
            if not fresh:
                if text[position] != _COMMA:
                    raise _wrong("expected `,` or the end of an array or object", position)
                position = skip_space(text, position + 1)
            fresh = False
            value = self._value_of_member(position) if begun[-1] == _BRACE else position
            if self._ends.is_long(value):
                # The name before a long value is judged with a number in the value's place.
                self._judge(text[position:value] + b"0", begun[-1], position)
                begun.append(text[value])
                position, fresh = skip_space(text, value + 1), True
                continue
            stop = yield from self._guess(position, begun[-1])
            if stop < 0:
                stop = yield from self._count(position, value, begun[-1])
            position = skip_space(text, stop)

    def _guess(self, position: int, container: int) -> Generator[None, None, int]:
        """Return the end of an item at most ``size`` away, with valid items up to there; -1 if no guess is right."""

        def is_valid(end: int) -> bool:
            try:
                self._judge(self._text[position:end], container, position)
            except BadValue:
                return False
            return True

        return (yield from guess_end(self._text, position, self._size, _GUESSES, is_valid))

    def _count(self, position: int, value: int, container: int) -> Generator[None, None, int]:
        """Return the same end, found by the brackets and quotes of the items. Raises `BadValue`."""
        text, start, last, count = self._text, position, 0, 0
        while True:
            end = yield from self._ends.find(value)
            if end - start > self._size:
                break
            last = end
            position = skip_space(text, end)
            if text[position] != _COMMA:
                break
            position = skip_space(text, position + 1)
            value = self._value_of_member(position) if container == _BRACE else position
            if self._ends.is_long(value):
                break
            count += 1
            if count % _MEMBERS == 0:
                yield None
        # Or a member that is long by its name alone.
        if last or end - value <= self._size:
            self._judge(text[start : last or end], container, start)
            return last or end
        self._judge(text[start:value] + b"0", container, start)
        yield from self._prove_string(value, end)
        return end

    def _prove_string(self, start: int, end: int) -> Generator[None, None, None]:
        """Judge the long string, or number, from ``start`` to ``end``. Raises `BadValue`."""
        text = self._text
        if text[start] != _QUOTE:
            raise _wrong(f"a number has more than {self._size} digits", start)
        position, last = start + 1, end - 1
        while position < last:
            stop = min(position + _STRING_BYTES, last)
            if stop < last:
                stop = _skip_characters(text, position, stop).end()  # type: ignore[union-attr]
                # Within a character of several bytes.
                while stop > position and text[stop] & 0xC0 == 0x80:
                    stop -= 1
            if stop == position:
                raise _wrong("an escape is none, or is half of a surrogate pair", position)
            self._judge(b'"%b"' % text[position:stop], 0x5B, position)
            position = stop
            yield None

    def _judge(self, items: bytes, container: int, position: int) -> None:
        """Let the decoder judge items of an array, or members of an object. Raises `BadValue`."""
        try:
            _decode_raw((b"{%b}" if container == _BRACE else b"[%b]") % items)
            check_text(items)
        # First, because this error is a DecodeError too: a NUL, which `check_text` tells in the words for clients.
        except msgspec.ValidationError as error:
            raise BadValue(str(error)) from None
        except UNDECODABLE as error:
            raise BadValue(_PLACE.sub("", describe_error(error, items, "")) + f" (after byte {position})") from None

    def _value_of_member(self, position: int) -> int:
        name = _match_name(self._text, position, position + _LONGEST_NAME)
        if name is None:
            raise _wrong(f"expected a member of an object, with a name of at most {_LONGEST_NAME} bytes", position)
        return skip_space(self._text, name.end())


def _wrong(what: str, position: int) -> BadValue:
    return BadValue(f"JSON is malformed: {what} (byte {position})")
