"""Maps the values of other protocols to the fields of an event, by rules that the protocols share. Pure.

Invariant: each result keeps specification §1 (lengths, the form of a type, the range of a timestamp); the same input
gives the same output, so that a repeated request has the same ids.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256

from msgspec import ValidationError

from hermes.events.decode import advise_unlisted
from hermes.events.event import MAX_TIMESTAMP, Event
from hermes.net.http.response import ECHOED

# The bound of `Event.id` and `Event.user_id`.
MAX_IDENTIFIER = 256

# The form of `allowed_types`: a name that POST /events takes stays as it is in every protocol.
_TYPE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_NOT_OF_A_TYPE = re.compile(r"[^A-Za-z0-9_.:-]+")
_MAX_TYPE = 64
# Names that are remembered: clients choose them, so without a bound they would fill the memory.
_REMEMBERED = 4096
# URL-safe base64 to the standard alphabet: clients send either, whatever their specification says.
_TO_STANDARD = str.maketrans("-_", "+/")


class TypeNames:
    """Makes the ``type`` of an event from a name of any form, and refuses types that EVENT_TYPES does not list.

    A name with the form of a type stays as it is. Any other name is written in lower case, with ``_`` for every run of
    other characters, cut at 64 characters; the full name stays in the payload.

    >>> type_of = TypeNames(["*"])
    >>> type_of("Order Completed!", "track"), type_of("page.view", "track"), type_of("???", "track")
    ('order_completed', 'page.view', 'track')
    """

    def __init__(self, event_types: Sequence[str]) -> None:
        self._allowed = None if tuple(event_types) == ("*",) else frozenset(event_types)
        self._unlisted = advise_unlisted(event_types)
        self._known: dict[str, str] = {}

    def __call__(self, name: str, otherwise: str) -> str:
        """Return the type for ``name``, or ``otherwise`` if no character fits. Raises `ValidationError`."""
        known = self._known.get(name)
        if known is not None:
            return known
        found = name if _TYPE.fullmatch(name) else _NOT_OF_A_TYPE.sub("_", name.lower()).strip("_")[:_MAX_TYPE]
        found = found or otherwise
        if self._allowed is not None and found not in self._allowed:
            of = "" if found == name else f" (of the name {name[:ECHOED]!r})"
            raise ValidationError(f"the type {found!r}{of} is {self._unlisted}")
        # After the check, so that a refused name takes no place.
        # No long name either: the number of names would not bound their bytes.
        if len(name) <= MAX_IDENTIFIER and len(self._known) < _REMEMBERED:
            self._known[name] = found
        return found


def fit(identifier: str) -> str:
    """Return the identifier, or its digest if it is longer than 256 characters.

    >>> fit("a"), fit("a" * 257)[:15]
    ('a', 'sha256:b02b965a')
    """
    # A digest and not a cut: two long identifiers with the same beginning stay two.
    return identifier if len(identifier) <= MAX_IDENTIFIER else digest(identifier.encode())


def digest(*parts: bytes) -> str:
    """Return ``sha256:`` and 64 hexadecimal digits, the digest of the parts.

    >>> digest(b"ab", b"c") == digest(b"a", b"bc")
    False
    """
    # Each part with its length, or ("ab", "c") and ("a", "bc") would have one digest.
    return f"sha256:{sha256(b''.join([b'%d:%b' % (len(part), part) for part in parts])).hexdigest()}"


def from_base64(text: str) -> bytes | None:
    """Return the bytes of base64 in either alphabet, with or without padding; None if the text is not base64.

    >>> from_base64("-_8"), from_base64("+/8="), from_base64("!")
    (b'\\xfb\\xff', b'\\xfb\\xff', None)
    """
    text = text.translate(_TO_STANDARD).rstrip("=")
    try:
        # The padding is added anew, because a client may leave it out. Without ``validate`` Python skips every
        # character outside the alphabet, and reads any text.
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None


def parse_time(text: str) -> float:
    """Return the Unix seconds of an ISO 8601 date and time, in UTC if the text names no zone. Raises `ValueError`.

    >>> parse_time("1970-01-01T00:01:00"), parse_time("1970-01-01T01:01:00+01:00")
    (60.0, 60.0)
    """
    # Without a zone the time is taken as UTC: the zone of this machine says nothing about the client's.
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()


def check_timestamp(seconds: float) -> int:
    """Return the whole seconds of a Unix time. Raises `ValidationError` for a time before 1970 or after 9999.

    >>> check_timestamp(1700000000.9)
    1700000000
    """
    if 0 <= seconds <= MAX_TIMESTAMP:
        # int() cuts towards zero, which is rounding down only because a negative time was refused.
        return int(seconds)
    raise ValidationError(f"the time, {seconds:.0f} in Unix seconds, is not between the years 1970 and 9999")


def size_of(events: Sequence[Event], body: int) -> int:
    """Return the bytes of memory that the events of a request hold; ``body`` is the size of its body."""
    # A payload is often a slice of the body, and one slice keeps the whole body alive.
    return max(body, sum([len(event.payload) + len(event.id) + len(event.user_id) for event in events]))
