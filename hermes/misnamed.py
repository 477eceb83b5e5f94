"""Finds the member that a client may have meant for a field that is missing: ``userId`` for ``user_id``.

Pure. Invariant: the work for one object is bounded, whatever its members are, and only a short printable name of the
client's is repeated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from hermes.spelling import distance

_MISSING = re.compile(r"missing required field `(\w+)`")
_NOT_OF_A_WORD = re.compile(r"[^a-z0-9]+")
_MOST_TEXT = 16 * 2**10  # bytes of an object that is searched
_LONGEST_NAME = 64
_MOST_COMPARED = 2  # names whose letters are compared one by one: some 10 µs each
_SHORTEST_COMPARED = 4  # letters; of shorter names one slip makes another word
_SLIPS = 2

# What other systems call these fields, in small letters without anything between the words.
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
    """One of the ``fields`` is wanted, and the object has none of them."""

    def __init__(self, message: str, *fields: str) -> None:
        super().__init__(message)
        self.fields = fields


def explain_missing(error: msgspec.ValidationError, text: bytes) -> str:
    """The words of an error, with what may have been meant where a field of the JSON object ``text`` is missing."""
    words, fields = str(error), missing_fields(error)
    if not fields or len(text) > _MOST_TEXT:
        return words
    try:
        names = _decode_members(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return words
    return words + advise(fields, names)


def missing_fields(error: msgspec.ValidationError) -> tuple[str, ...]:
    """The fields of which an error says that one is missing; none for an error about something else."""
    if isinstance(error, FieldMissing):
        return error.fields
    found = _MISSING.search(str(error))
    return (found[1],) if found else ()


def advise(fields: tuple[str, ...], names: Iterable[str]) -> str:
    """What to do where one of ``fields`` is missing beside members of these names; empty if none is like it.

    >>> advise(("user_id",), ["id", "userId"])
    '; did you mean `user_id` by `userId`? Rename it'
    """
    known = {_plain(name): name for name in names if len(name) <= _LONGEST_NAME and name.isprintable()}
    for field in fields:
        meant = _find(_plain(field), known)
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
    alike = [name for name in known if name[:1] == field[0] and abs(len(name) - len(field)) <= _SLIPS]
    for name in alike[:_MOST_COMPARED]:
        if distance(name, field) <= _SLIPS - (len(field) < 6):
            return known[name]
    return ""
