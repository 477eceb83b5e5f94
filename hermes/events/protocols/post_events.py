"""Reads ``POST /events``: Hermes's own events and CloudEvents, told apart by media types and headers. Pure.

Invariant: a request without the marks of a CloudEvent is read as specification §1 and §2 say.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from hermes.base.json.cut import Pieces, cut_json, cut_lines
from hermes.events.decode import Decoded, EventDecoder
from hermes.events.ingest.format import JSON_TYPES, Format, OneEvent
from hermes.events.ingest.ids import HEADER as IDEMPOTENCY_KEY
from hermes.events.ingest.ids import RequestIds
from hermes.events.protocols.cloudevents import BATCH, FAMILY, MARK, STRUCTURED, CloudEventDecoder, cut_data
from hermes.net.http.head import Head
from hermes.net.http.response import ECHOED, Response, problem

PATH = "/events"

# Clients use many names for newline-delimited JSON, since no name is registered.
_LINES = frozenset(
    f"{family}/{prefix}{name}"
    for family in ("application", "text")
    for prefix in ("", "x-")
    for name in ("ndjson", "jsonl", "jsonlines", "json-lines", "ldjson", "json-stream", "jsonstream")
) | {"application/stream+json"}
# Responses, one for each number of events: a client must not fill the memory with them.
_MOST_REMEMBERED = 1024
# Bytes, decoded in 2 ms: a larger body is decoded piece by piece, with pauses for the loop.
_PIECE = 32 * 2**10


class OwnAnswers:
    """The answers of Hermes's own protocol: 202 with the number of events; errors are problem details.

    >>> OwnAnswers().refused(415, "send JSON").status
    415
    """

    def __init__(self) -> None:
        # Encoded once for each number of events: the usual answer costs no encoding.
        self.one = Response(202, b'{"accepted":1}')
        self._accepted = {1: self.one}

    def taken(self, decoded: Decoded) -> Response:
        """Return 202 with the number of accepted events and the rejections."""
        count = len(decoded.events)
        if decoded.rejected:
            return Response(202, msgspec.json.encode({"accepted": count, "rejected": decoded.rejected}))
        response = self._accepted.get(count)
        if response is None:
            response = Response(202, b'{"accepted":%d}' % count)
            if len(self._accepted) < _MOST_REMEMBERED:
                self._accepted[count] = response
        return response

    def nothing(self, decoded: Decoded) -> Response:
        """Return 400 with the rejections."""
        if not decoded.rejected:
            # With the members of the answer below, so that a client reads one form.
            return problem(400, "the body holds no event", accepted=0, rejected=[])
        return problem(400, "no event of this request is valid", accepted=0, rejected=decoded.rejected)

    def refused(self, status: int, detail: str, headers: Mapping[str, str] | None = None, **members: Any) -> Response:
        """Return problem details."""
        return problem(status, detail, headers, **members)


class _BatchAnswers(OwnAnswers):
    """The answers to a batch of CloudEvents, which may be empty (JSON format §4)."""

    def nothing(self, decoded: Decoded) -> Response:
        # An empty batch has nothing to reject, and is a success.
        return super().nothing(decoded) if decoded.rejected else self.taken(decoded)


class PostEvents:
    """The protocol of ``POST /events``. ``clock`` gives the time of arrival, in Unix seconds.

    ``any_times`` has the meaning that it has for `EventDecoder`. ::

        protocol = PostEvents(["*"], time.time)
        request = EventRequest(head, protocol.choose(head))
        decoded = request.format.decode(request, body)
    """

    paths = (PATH,)
    key_in_body = False

    def __init__(self, event_types: Sequence[str], clock: Callable[[], float], *, any_times: bool = False) -> None:
        own, cloud = EventDecoder(event_types, any_times=any_times), CloudEventDecoder(event_types, clock)
        self._answers = answers = OwnAnswers()
        json, lines = own.decode_json, own.decode_lines
        # The usual body is one event: it is read without the detour through a `Format`.
        one = OneEvent(own.decode_one, answers.one)
        self._json = Format(answers, lambda _request, body: json(body), cut=_cut_json, one=one)
        self._lines = Format(answers, lambda _request, body: lines(body), cut=_cut_lines)
        # Without a key an event's id is the client's duty: only then is it safe to send again.
        # The ids are given event by event, which takes longer, so a body is cut sooner.
        self._keyed_json = Format(
            answers, lambda request, body: json(body, RequestIds(request, clock())), cut=_cut_json, at_once=_PIECE
        )
        self._keyed_lines = Format(
            answers, lambda request, body: lines(body, RequestIds(request, clock())), cut=_cut_lines, at_once=_PIECE
        )
        self._structured = Format(answers, cloud.decode_structured, cut=_cut_json)
        self._batch = Format(_BatchAnswers(), cloud.decode_batch, cut=_cut_json, at_once=_PIECE)
        # The headers hold the id of the event, so no other request will have the same head: do not remember it.
        self._binary = Format(answers, cloud.decode_binary, cut=cut_data, unique=True)

    def choose(self, head: Head) -> Format:
        """Return the format of a request. A media type of CloudEvents excludes their binary mode."""
        kind = head.media_type
        if kind.startswith(FAMILY):
            # Other formats of CloudEvents, such as Avro or XML, come to the 415 below.
            if kind in {STRUCTURED, BATCH}:
                return self._structured if kind == STRUCTURED else self._batch
        elif MARK in head.headers:
            return self._binary
        elif kind in JSON_TYPES or kind in _LINES:
            json = kind in JSON_TYPES
            if IDEMPOTENCY_KEY not in head.headers:
                return self._json if json else self._lines
            # `OneEvent` knows no key, so the body of a keyed request goes through `Format.decode`.
            return self._keyed_json if json else self._keyed_lines
        return Format(
            self._answers,
            self._json.decode,
            # Cut off: a client's header may have kilobytes, and the answer repeats it.
            f"Content-Type {kind[:ECHOED]!r} is not taken: send application/json or application/x-ndjson, or "
            f"CloudEvents as {STRUCTURED}, {BATCH}, or with a {MARK} header",
        )


def _cut_json(_head: Head, body: bytes) -> Pieces:
    return cut_json(body, _PIECE)


def _cut_lines(_head: Head, body: bytes) -> Pieces:
    return cut_lines(body, _PIECE)
