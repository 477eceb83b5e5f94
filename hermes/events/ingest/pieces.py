"""Decodes a large body piece by piece, as a generator that the workshop gives its turns.

Invariant: the events, their places and the reasons of the rejected events are the same as of the whole body. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from copy import copy

from msgspec import Raw

from hermes.base.json.cut import Refused
from hermes.base.json.long_values import Slim
from hermes.base.json.rules import BadBody
from hermes.events.decode import Decoded, too_many_rejected
from hermes.events.event import EVENT_BYTES, Event
from hermes.events.ingest.refusal import TooManyEvents
from hermes.events.ingest.request import EventRequest
from hermes.net.http.content import PARTS_AT_ONCE, ContentError, ContentTooLarge
from hermes.net.http.keys import WANTED, KeyRefused
from hermes.net.http.rejection import MAX_REJECTIONS, Rejection

# Bytes that zlib decodes in a millisecond.
_INFLATED_AT_ONCE = 128 * 2**10
# Events, freed in a millisecond.
_FREED_AT_ONCE = 5000
_PLACE = re.compile(r" \(byte \d+\)")


UNREADABLE = (ContentTooLarge, ContentError, BadBody, KeyRefused, TooManyEvents)
"""What decoding a body raises. Each has an answer of its own."""


def decode_pieces(
    request: EventRequest, begun: list[bytes], parts: Iterator[bytes], capacity: int
) -> Generator[int, None, Decoded]:
    """The events of a body whose first ``parts`` are ``begun``, at most ``capacity``. Yields bytes held more.

    Raises one of `UNREADABLE`.
    """
    size = 0
    for count, part in enumerate(parts, 1):
        # Empty parts are counted, but not kept: a body may have millions of them.
        if part:
            begun.append(part)
        size += len(part)
        if size >= _INFLATED_AT_ONCE or count % PARTS_AT_ONCE == 0:
            yield size
            size = 0
    yield size
    # The parts are cleared before the yield, so that the body is held once.
    body = b"".join(begun)
    begun.clear()
    yield 0
    gathered = _Gathered(request, capacity)
    try:
        for piece in request.format.cut(request.head, body):
            if piece is None:
                yield 0
            elif isinstance(piece, Refused):
                gathered.refuse(piece.error)
            elif isinstance(piece, Slim):
                count = gathered.add_slim(piece)
                yield count * EVENT_BYTES + len(body)
            else:
                count = gathered.add(piece, alone=piece is body)
                yield count * EVENT_BYTES + (0 if piece is body else len(piece))
        return gathered.decoded()
    except UNREADABLE:
        # To free a hundred thousand events takes some time, too.
        while gathered.events:
            del gathered.events[-_FREED_AT_ONCE:]
            yield 0
        raise


class _Gathered:
    """The events and the rejections of the pieces so far."""

    def __init__(self, request: EventRequest, capacity: int) -> None:
        # A copy: the request is shared by all requests with the same head.
        self._request = copy(request)
        self._request.piece = True
        self._judge_key = request.admit
        if request.admit is not None:
            self._request.admit = self._admit
        self._key_known = False
        self._any_decoded = False
        self._capacity = capacity
        self.events: list[Event] = []
        self._rejected: list[Rejection] = []
        self._size = 0
        self._note = ""

    def add(self, piece: bytes, *, alone: bool) -> int:
        """Decode a piece, which may be the whole body ``alone``. Returns the number of events."""
        request, rejected = self._request, self._rejected
        self._any_decoded = True
        first = request.first
        try:
            decoded = request.format.decode(request, piece)
        except BadBody as error:
            if alone:
                raise
            # A place in the piece says nothing to the client.
            raise BadBody(f"{_PLACE.sub('', str(error))} (in the event of index {first}, or soon after it)") from None
        self.events += decoded.events
        self._size += decoded.size or len(piece)
        self._note = self._note or decoded.note
        # Rejected events have places too: the client counts all that it has sent.
        request.first += len(decoded.events) + len(decoded.rejected)
        if not request.format.partial or len(rejected) < MAX_REJECTIONS:
            rejected += [Rejection(first + each.index, each.error) for each in decoded.rejected]
        else:
            # The answer gives the number of further rejections and not their reasons, so the first stands for all.
            rejected += rejected[:1] * len(decoded.rejected)
        self._check()
        return len(decoded.events)

    def add_slim(self, slim: Slim) -> int:
        """Decode a piece whose long values were proved already, and put them back. Returns the number of events."""
        count = self.add(slim.text, alone=False)
        for event in self.events[len(self.events) - count :]:
            restored = slim.restore(bytes(event.payload))
            self._size += len(restored) - len(event.payload)
            event.payload = Raw(restored)
        return count

    def refuse(self, error: str) -> None:
        self._rejected.append(Rejection(self._request.first, error))
        self._request.first += 1
        self._check()

    def _check(self) -> None:
        chosen = self._request.format
        # At each piece: the events of a request beyond the queue's size would fill the memory before the end of the
        # body.
        if len(self.events) > self._capacity:
            raise TooManyEvents(len(self.events), self._capacity)
        if len(self._rejected) > MAX_REJECTIONS:
            if not chosen.partial:
                raise too_many_rejected(self._rejected[0])
            # Now and not after the last piece: a client without a key must not keep the service busy with invalid
            # events.
            self._require_key()
        if len(self._rejected) > self._capacity:
            raise TooManyEvents(self._request.first, self._capacity)
        # Each event may repeat a part that all share, such as the resource of OTLP, so a body can grow by much.
        if chosen.most and self._size > chosen.most:
            raise ContentTooLarge(
                f"the events of this request, each with what they share, hold more than {chosen.most} bytes: send "
                "fewer a request"
            )

    def _admit(self, key: str) -> bool:
        """Judge a key in the body. A message that is wrong may be alone in its piece: the key of another will do."""
        admitted = self._judge_key is not None and self._judge_key(key)
        self._key_known = self._key_known or admitted
        return admitted

    def decoded(self) -> Decoded:
        """All that the pieces held. Raises `KeyRefused` where a key is wanted, and no piece had one."""
        self._require_key()
        return Decoded(self.events, self._rejected, self._size, self._note)

    def _require_key(self) -> None:
        if self._judge_key is not None and self._any_decoded and not self._key_known:
            raise KeyRefused(WANTED)
