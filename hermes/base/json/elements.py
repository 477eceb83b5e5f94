"""Finds the elements of a JSON array, or the members of an object, without judging their contents.

A decoder of JSON stops at the first mistake, and cannot tell where the faulty element ends. Brackets and quotes alone
tell the end: half of a surrogate pair, a byte that is not UTF-8, a number of a megabyte or a thousand levels spoil only
their own element. A missing quote or bracket spoils the whole array.

Invariant: the elements of valid JSON are found exactly, one at a time, in memory for one element and in time linear in
the text, within a bound: a text of little but brackets is refused. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import DecodeError

from hermes.base.json.wrong_types import kind_of

STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
"""A regular expression of a JSON string with any contents; for use with `re.DOTALL`."""

_WHITESPACE = b" \t\r\n"
_QUOTE, _COMMA = b'",'
_OPENING, _CLOSING = frozenset(b"[{"), frozenset(b"]}")


# The text skipped in one step. Within an element a comma separates nothing, and an array of plain values is skipped
# whole. Possessive quantifiers keep the time linear.
_skip_outside = re.compile(rb'[^"\[\]{},]*+(?:%b[^"\[\]{},]*+)*+' % STRING, re.DOTALL).match
_skip_inside = re.compile(rb'[^"\[\]{}]*+(?:(?:%b|\[[^"\[\]{}]*+\])[^"\[\]{}]*+)*+' % STRING, re.DOTALL).match
# Each bracket costs a step in Python, one millisecond for the free ones. The bound grows with the text, and leaves
# small texts alone.
_FREE_BRACKETS = 4_000
_BYTES_A_BRACKET = 8
_match_name = re.compile(rb"\s*+(%b)\s*+:" % STRING, re.DOTALL).match


def cut_off(position: int) -> str:
    """Return the fault of a text that ends at ``position``, before its last value does."""
    return f"it ends in the middle (byte {position}): was the body cut off?"


def split_array(text: bytes) -> Iterator[bytes]:
    """Yield the elements of an array, each as its text. Raises `msgspec.DecodeError`, maybe after some elements.

    >>> list(split_array(b'[1, {"a": [2, 3]}, "x"]'))
    [b'1', b'{"a": [2, 3]}', b'"x"']
    """
    return _split(text, b"[", b"]")


def split_object(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the members of an object: each name with its quotes and escapes, and the text of the value.

    Raises `msgspec.DecodeError`, maybe after some members.

    >>> list(split_object(b'{"a": 1, "b": [2]}'))
    [(b'"a"', b'1'), (b'"b"', b'[2]')]
    """
    for member in _split(text, b"{", b"}"):
        name = _match_name(member)
        if name is None:
            raise DecodeError("JSON is malformed: a member of an object is no name with a value")
        yield name[1], member[name.end() :].strip(_WHITESPACE)


def is_object(text: bytes) -> bool:
    """Whether a text begins and ends as one object, with any faults within."""
    try:
        return all(True for _ in _split(text, b"{", b"}"))
    except DecodeError:
        return False


def _split(text: bytes, opening: bytes, closing: bytes) -> Iterator[bytes]:
    position = size = len(text)
    inner = text.lstrip(_WHITESPACE)
    if inner[:1] != opening:
        wanted = "array" if opening == b"[" else "object"
        raise DecodeError(f"Expected `{wanted}`, got `{kind_of(inner)}`" if inner else f"Expected `{wanted}`")
    begin = position = size - len(inner) + 1
    depth = count = 0
    # A budget for the whole text, not for each element: the work is bounded whatever the form.
    brackets = _FREE_BRACKETS + size // _BYTES_A_BRACKET
    while True:
        found = (_skip_inside if depth else _skip_outside)(text, position)
        position = size if found is None else found.end()
        # The expression stops at a quote only if the string has no end.
        if position == size or text[position] == _QUOTE:
            raise DecodeError("Input data was truncated")
        mark = text[position]
        position += 1
        if mark in _OPENING:
            depth += 1
            brackets -= 1
            if brackets < 0:
                raise DecodeError("JSON is nested too deeply, or in too many tiny pieces, to find the mistake in it")
        # Of either kind: a decoder judges the element, and finds a `]` that ends an object.
        elif depth and mark in _CLOSING:
            depth -= 1
        else:
            element = text[begin : position - 1].strip(_WHITESPACE)
            if element:
                yield element
            # An empty array has one empty element, which is none; anywhere else an element is missing.
            elif count or mark == _COMMA:
                raise DecodeError(f"JSON is malformed: an element is missing (byte {position - 1})")
            count += 1
            begin = position
            if mark != _COMMA:
                break
    # A closing bracket of either kind ends the loop.
    if text[position - 1 : position] != closing:
        raise DecodeError(f"JSON is malformed: expected {closing.decode()} (byte {position - 1})")
    if text[position:].strip(_WHITESPACE):
        raise DecodeError(f"JSON is malformed: trailing characters (byte {position})")
