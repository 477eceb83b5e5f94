"""Ids for events that come without one: new for each event, or made from the request's ``Idempotency-Key``.

Equal events of two requests are two events, so nothing of an event's content is in its id. A client that sends a
request again says so by the same key; then the events have the same ids, and the sinks store each once.

Invariant: two events of a request never get the same id. Pure but for the random bits.
"""

from __future__ import annotations

import re
from hashlib import sha256
from os import urandom
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hermes.events.ingest.request import EventRequest

HEADER = "idempotency-key"
MAX_KEY = 256
_KEY = re.compile(rf"[ -~]{{1,{MAX_KEY}}}")

WANTED = f"Idempotency-Key has to be 1 to {MAX_KEY} printable characters of ASCII: send one for each new request"

_VARIANT = 0b10 << 62
# 61 random bits of the 62 behind the variant: to count up from them by the events of a request never leaves the 62.
_RANDOM = (1 << 61) - 1


def is_key(value: str) -> bool:
    """Whether the header has a value that ids can be made from."""
    return _KEY.fullmatch(value) is not None


class RequestIds:
    """The ids of a request's events, each by the event's place in the request, from 0.

    ``now`` is the time of arrival in Unix seconds. Without a key an id is a UUIDv7 (RFC 9562 §5.7), and those of a
    request ascend, which suits the index of a database. With a key an id is the digest of the path, the key and the
    place.
    """

    __slots__ = ("_begin_at", "_first", "_key", "_now", "_prefix")

    def __init__(self, request: EventRequest, now: float) -> None:
        # The path too: a client may use one key for one thing, and send it to two paths.
        self._key = f"{request.head.path}\n{request.head.headers[HEADER]}\n" if HEADER in request.head.headers else ""
        self._begin_at = request.first
        self._now = now
        self._prefix = ""

    def __call__(self, index: int) -> str:
        """The id of the event at this place."""
        # A digest has one length for every key, and tells nothing of the key to the readers of the events.
        if self._key:
            return f"sha256:{sha256(f'{self._key}{self._begin_at + index}'.encode()).hexdigest()}"
        if not self._prefix:
            self._begin()
        # Counted up, so that the ids of a request ascend without further random bits.
        low = f"{self._first + index:x}"
        return f"{self._prefix}-{low[:4]}-{low[4:]}"

    def _begin(self) -> None:
        """Draw the random bits: only a request that needs an id pays for them."""
        # 12 of these 80 bits stand behind the version, as RFC 9562 has them, and others behind the variant.
        bits = int.from_bytes(urandom(10))
        # 48 bits: a clock that is far off must not make a longer id.
        high = f"{int(self._now * 1000) & 0xFFFF_FFFF_FFFF:012x}"
        self._prefix = f"{high[:8]}-{high[8:]}-7{bits >> 68:03x}"
        self._first = _VARIANT | bits & _RANDOM
