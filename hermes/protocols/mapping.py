"""The rules by which what other protocols send becomes the fields of an event. Pure.

Invariant: what they give keeps specification §1 (lengths, the form of a type, the range of a timestamp), and the same
input gives the same output, so that a request that is sent again has the same ids. Called by the decoders of this
package.
"""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256

from msgspec import ValidationError

from hermes.decode import advise_unlisted
from hermes.event import MAX_TIMESTAMP, Event
from hermes.http.ingest import ECHOED

MAX_IDENTIFIER = 256

_TYPE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_NOT_OF_A_TYPE = re.compile(r"[^A-Za-z0-9_.:-]+")
_MAX_TYPE = 64
_REMEMBERED = 4096
_TO_STANDARD = str.maketrans("-_", "+/")


class TypeNames:
    """Makes the ``type`` of an event from a name of any form, and refuses what EVENT_TYPES does not name.

    A name that has the form of a type is one as it is. Any other is written in lower case, with ``_`` for every run of
    other characters, cut at 64; the name itself stays in the payload.
    """

    def __init__(self, event_types: Sequence[str]) -> None:
        self._allowed = None if tuple(event_types) == ("*",) else frozenset(event_types)
        self._unlisted = advise_unlisted(event_types)
        self._known: dict[str, str] = {}

    def __call__(self, name: str, otherwise: str) -> str:
        """The type for ``name``; ``otherwise`` where nothing of it can be in a type. Raises `ValidationError`."""
        known = self._known.get(name)
        if known is not None:
            return known
        found = name if _TYPE.fullmatch(name) else _NOT_OF_A_TYPE.sub("_", name.lower()).strip("_")[:_MAX_TYPE]
        found = found or otherwise
        if self._allowed is not None and found not in self._allowed:
            of = "" if found == name else f" (of the name {name[:ECHOED]!r})"
            raise ValidationError(f"the type {found!r}{of} is {self._unlisted}")
        if len(name) <= MAX_IDENTIFIER and len(self._known) < _REMEMBERED:
            self._known[name] = found
        return found


def fit(identifier: str) -> str:
    """An identifier of at most 256 characters: itself, or the digest of one that is longer."""
    return identifier if len(identifier) <= MAX_IDENTIFIER else digest(identifier.encode())


def digest(*parts: bytes) -> str:
    """``sha256:`` and 64 hexadecimal digits, of the parts, each with its length."""
    return f"sha256:{sha256(b''.join([b'%d:%b' % (len(part), part) for part in parts])).hexdigest()}"


def from_base64(text: str) -> bytes | None:
    """The bytes of base64 in either alphabet, with padding or without; None for what is neither."""
    text = text.translate(_TO_STANDARD).rstrip("=")
    try:
        return b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None


def parse_time(text: str) -> float:
    """Unix seconds of an ISO 8601 date and time, in UTC if it names no zone. Raises `ValueError`."""
    time = datetime.fromisoformat(text)
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()


def check_timestamp(seconds: float) -> int:
    """The whole seconds of a Unix time. Raises `ValidationError` for a time before 1970 or after 9999."""
    if 0 <= seconds <= MAX_TIMESTAMP:
        return int(seconds)
    raise ValidationError(f"the time, {seconds:.0f} in Unix seconds, is not between the years 1970 and 9999")


def size_of(events: Sequence[Event], body: int) -> int:
    """The bytes that events keep alive whose request had a body of so many bytes."""
    return max(body, sum([len(event.payload) + len(event.id) + len(event.user_id) for event in events]))
