"""Finds the member that a client may have meant for a missing field: ``userId`` for ``user_id``. Pure.

Invariant: the work for one object is bounded, whatever its members are, and only a short printable name of the client's
is repeated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from hermes.base.json.wrong_types import in_words
from hermes.base.spelling import distance

_MISSING = re.compile(r"missing required field `(\w+)`")
_NOT_OF_A_WORD = re.compile(r"[^a-z0-9]+")
# Bytes of an object. A larger one is not searched, because the advice costs a second decoding.
_MOST_TEXT = 16 * 2**10
# A longer name would fill the answer with the client's own text.
_LONGEST_NAME = 64
# Names whose letters are compared one by one: some 10 µs each.
_MOST_COMPARED = 2
# Letters. In a shorter name one slip makes another word.
_SHORTEST_COMPARED = 4
_SLIPS = 2

# The names of these fields in other systems, in small letters without anything between the words.
_OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "id": ("eventid", "messageid", "uuid", "guid", "insertid", "dedupid", "key"),
    "userid": ("user", "uid", "distinctid", "anonymousid", "customerid", "accountid", "username"),
    "anonymousid": ("anonid", "deviceid", "visitorid", "distinctid"),
    "type": ("eventtype", "event", "eventname", "name", "kind", "action"),
    "event": ("eventname", "name", "type", "eventtype"),
    "timestamp": ("ts", "time", "date", "datetime", "eventtime", "createdat", "occurredat", "unixtime", "when"),
    "specversion": ("version", "cloudeventsversion"),
    "source": ("eventsource", "src", "origin"),
}
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class FieldMissing(msgspec.ValidationError):
    """One of the ``fields`` is required, and the object has none of them."""

    def __init__(self, message: str, *fields: str) -> None:
        super().__init__(message)
        self.fields = fields


def explain_missing(error: msgspec.ValidationError, text: bytes) -> str:
    """Return the words of an error; if a field of the object ``text`` is missing, with the member that may be meant."""
    words, fields = in_words(str(error)), missing_fields(error)
    if not fields or len(text) > _MOST_TEXT:
        return words
    try:
        names = _decode_members(text)
    # The text has a second fault. The first one is told, without advice.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return words
    return words + advise(fields, names)


def missing_fields(error: msgspec.ValidationError) -> tuple[str, ...]:
    """Return the fields of which one is missing by this error; empty for another error."""
    if isinstance(error, FieldMissing):
        return error.fields
    found = _MISSING.search(str(error))
    return (found[1],) if found else ()


def advise(fields: tuple[str, ...], names: Iterable[str]) -> str:
    """Return the advice if one of ``fields`` is missing beside members of these names; empty if no name is like it.

    >>> advise(("user_id",), ["id", "userId"])
    '; did you mean `user_id` by `userId`? Rename it'
    """
    known = {_plain(name): name for name in names if len(name) <= _LONGEST_NAME and name.isprintable()}
    for field in fields:
        meant = _find(_plain(field), known)
        # A member of the very name is there, so another fault made the error.
        if meant and meant != field:
            return f"; did you mean `{field}` by `{meant}`? Rename it"
    return ""


def _plain(name: str) -> str:
    return _NOT_OF_A_WORD.sub("", name.lower())


def _find(field: str, known: dict[str, str]) -> str:
    for name in (field, *_OTHER_NAMES.get(field, ())):
        if name in known:
            return known[name]
    if len(field) < _SHORTEST_COMPARED:
        return ""
    # With the same first letter: of hundreds of members a few are left to compare.
    alike = [name for name in known if name[:1] == field[0] and abs(len(name) - len(field)) <= _SLIPS]
    for name in alike[:_MOST_COMPARED]:
        # As in `hermes.base.spelling`: in a short word two slips make another word.
        if distance(name, field) <= _SLIPS - (len(field) < 6):
            return known[name]
    return ""
