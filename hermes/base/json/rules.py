"""The rules of JSON that every body has to keep, and the words for a body that breaks one. Pure.

msgspec reads JSON fast, but looks into no `Raw`, and takes texts that some database refuses: other encodings than
UTF-8, U+0000 in a string, nesting without an end. The decoders of all protocols check these rules with the functions
below.

Invariant: a text is checked in a few searches in C; only a text with a fault is walked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec
from msgspec import Raw

from hermes.base.errors import HermesError
from hermes.base.json.elements import STRING, cut_off, split_array
from hermes.base.json.wrong_types import in_words

MAX_NESTING = 500
"""The deepest nesting of a payload's arrays and objects. Every Python and every database reads this depth; beyond it,
one would refuse a payload that another takes."""

JUDGED = 128 * 2**10
"""The longest text, in bytes, whose nesting is judged during decoding. `cut` judges a longer one in slices."""

TOO_DEEP = f"JSON is nested too deeply: at most {MAX_NESTING} levels are taken"
"""The fault of a text that is nested deeper than `MAX_NESTING`."""

SHALLOW = 2 * MAX_NESTING
"""Shorter JSON cannot be nested too deeply, because each level takes an opening and a closing byte."""

Text = TypeVar("Text", bytes, Raw)

WHITESPACE = b" \t\r\n"
"""The bytes that JSON allows between values."""

# The beginning of JSON in UTF-32 and, in the group, UTF-16: a mark, or one of JSON's own characters among zero bytes.
_WIDE = re.compile(
    rb"\xff\xfe\0\0|\0\0\xfe\xff|[{\[\" \t\r\n]\0\0\0|\0\0\0[{\[\" \t\r\n]"
    rb"|(\xff\xfe|\xfe\xff|[{\[\" \t\r\n]\0[^\0]\0|\0[{\[\" \t\r\n]\0[^\0])"
)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_STRING = re.compile(STRING, re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# A list of all elements takes some 50 bytes for each. That is harmless in a short body, and in a body with fewer commas
# than one in this many bytes.
_HELD_BYTES = 2**20
_BYTES_A_COMMA = 8
# As an integer, because a search for one byte is six times faster than a search for the six of the escape.
BACKSLASH = 0x5C
NUL_ESCAPE = rb"\u0000"
"""The escape of U+0000, which no database stores in a string."""

# Half of a surrogate pair: the remainder of a string that was cut in the middle of an emoji.
_HALF_PAIR = re.compile(
    rb"(?<!\\)(?:\\\\)*+(\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|[c-fC-F][0-9a-fA-F]{2}))"
)
SEPARATE = "; several events? send them as application/x-ndjson, one a line (curl: --data-binary)"
"""The advice for a text with more than one value."""

UNDECODABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""The errors of msgspec for bytes that are not the expected JSON."""


class BadBody(HermesError):
    """The body as a whole cannot be read. The client acts; the message names the fault and its place."""


_decode_raws = msgspec.json.Decoder(list[Raw]).decode


def is_sparse(body: bytes) -> bool:
    """Whether the elements of the arrays in a JSON text may be held all at once."""
    return len(body) <= _HELD_BYTES or body.count(b",") * _BYTES_A_COMMA <= len(body)


def find_elements(body: bytes) -> Iterable[Raw]:
    """Return the texts of an array's elements, with any faults within them. Raises `BadBody`, maybe after some."""
    if is_sparse(body):
        try:
            return _decode_raws(body)
        except UNDECODABLE:
            # The slower way finds the faulty element.
            pass
    return _split(body)


def _split(body: bytes) -> Iterator[Raw]:
    try:
        yield from map(Raw, split_array(body))
    except msgspec.DecodeError as error:
        raise BadBody(describe_error(error, body)) from None


def is_clean(body: bytes) -> bool:
    """Whether valid JSON is UTF-8 and has no escaped NUL, by a quick look that may also say no to a clean text.

    msgspec does not look inside `Raw`, so this function checks the whole body at once.
    """
    if BACKSLASH in body and NUL_ESCAPE in body:
        return False
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            return False
    return True


def check_text(text: bytes) -> None:
    """Check one event's text exactly. Raises `UnicodeDecodeError`, or `msgspec.ValidationError` for a NUL."""
    if not text.isascii():
        text.decode()
    # The escape itself, not an escaped backslash followed by the letters u0000.
    if NUL_ESCAPE in text and NUL_ESCAPE in text.replace(rb"\\", b""):
        raise msgspec.ValidationError("A string holds U+0000, which cannot be stored")


def any_deep(payloads: Sequence[Raw]) -> bool:
    """Whether one of the payloads is nested more than `MAX_NESTING` deep."""
    # The longest first: a batch of small payloads then costs no call for each.
    return max(map(len, payloads), default=0) >= SHALLOW and any(map(is_deep, payloads))


def is_deep(payload: Raw) -> bool:
    """Whether valid JSON is nested more than `MAX_NESTING` deep. False for a text longer than `JUDGED`.

    The depth of a longer text is known already: finding it takes a tenth of a second for each megabyte of tiny values,
    so ``hermes.base.json.cut`` does that in many steps.
    """
    if not SHALLOW <= len(payload) <= JUDGED:
        return False
    data = bytes(payload)
    # Counting brackets in C first: hardly any payload has enough of them to be too deep.
    if len(data.translate(None, _NOT_BRACKETS)) < SHALLOW:
        return False
    depth = 0
    # Without the strings: a bracket in a string nests nothing.
    for bracket in _STRING.sub(b"", data).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_NESTING:
            return True
    return False


def without_mark(body: bytes) -> bytes:
    """Return a body without the byte order mark that some editors and languages put before UTF-8 (RFC 8259 §8.1).

    Raises `BadBody` for UTF-16 and UTF-32.
    """
    refuse_wide(body)
    return body[len(_BYTE_ORDER_MARK) :] if body.startswith(_BYTE_ORDER_MARK) else body


def refuse_wide(body: bytes) -> None:
    """Raise `BadBody` for JSON in UTF-16 or UTF-32, with a byte order mark or without."""
    found = _WIDE.match(body)
    if found is not None:
        name = "UTF-32" if found[0].count(0) >= 2 and found[1] is None else "UTF-16"
        raise BadBody(f"the body is not UTF-8, it looks like {name}: send it as UTF-8")


def describe_error(error: Exception, text: bytes, separate: str = SEPARATE) -> str:
    """Return the fault of ``text`` and its place; ``separate`` is the advice if the text has more than one value.

    >>> describe_error(msgspec.DecodeError("Input data was truncated"), b'{"id":')
    'JSON is malformed: it ends in the middle (byte 6): was the body cut off?'
    """
    if not text.strip(WHITESPACE):
        return "the body is empty"
    if isinstance(error, RecursionError):
        # The limit of msgspec's recursion, which differs from one Python to the next.
        return TOO_DEEP
    if isinstance(error, UnicodeDecodeError):
        return f"JSON is not UTF-8: {error.reason} (byte {error.start})"
    # Only in a short text, because the search is one step.
    half = _HALF_PAIR.search(text) if len(text) <= JUDGED else None
    if half is not None:
        escape = half[1].decode()
        return f"JSON is malformed: {escape} is half of a surrogate pair, and no character (byte {half.start(1)})"
    words = in_words(str(error))
    if words == "Input data was truncated":
        return f"JSON is malformed: {cut_off(len(text))}"
    return words + separate if "trailing characters" in words else words
