"""The route ``POST /events``: from a parsed request to a 202, or to the words that say why not.

Plain functions, shared by both lanes. Invariant: a 2xx names exactly the events that the intake has taken; any other
answer means that none of them was. The app lends the intake; this module knows no engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

import msgspec

from hermes.ack import HEADER, Ack, Outcome, Receipt, Settle
from hermes.decode import BadBody, Decoded, EventDecoder, Rejection
from hermes.event import Event
from hermes.http.content import CODINGS, ContentError, ContentTooLarge, decode_content
from hermes.http.head import JSON_TYPES, Head, Route, too_large
from hermes.http.keys import UNAUTHORIZED, Keys
from hermes.http.pending import Pending
from hermes.http.response import Response, problem

PATH = "/events"

_ECHOED = 100  # characters of what a client sent that it is shown again

_LINES = frozenset({"application/x-ndjson", "application/jsonl", "application/ndjson", "application/x-jsonlines"})


class Intake(Protocol):
    """What takes events in: the engine, as the lanes see it."""

    capacity: int
    ack: Ack

    def offer(self, events: list[Event], size: int) -> bool:
        """Take all the events, which came in ``size`` bytes, into the queue, or none (False)."""

    def submit(self, events: list[Event], size: int, ack: Ack, settle: Settle) -> Callable[[], None]:
        """Take all the events or none, and settle when they are as far as ``ack`` says. Returns what calls it off."""

    def retry_after(self) -> int:
        """Whole seconds after which there may be room again."""


class Ingest:
    """The route and what it is configured with. ``keys`` empty: open to all; ``origins`` may be ``("*",)``."""

    def __init__(
        self,
        intake: Intake,
        decoder: EventDecoder,
        rejected: Counter[str],
        *,
        max_body_bytes: int,
        keys: Sequence[str] = (),
        origins: Sequence[str] = (),
    ) -> None:
        self._intake = intake
        self._decoder = decoder
        self._rejected = rejected
        self._max_body_bytes = max_body_bytes
        self._keys = Keys(keys)
        self._origins = frozenset(origins)
        self._offer = intake.offer
        self._ack = intake.ack
        self._at_once = intake.ack is Ack.ACCEPTED
        self._decode_one = decoder.decode_one
        self._explain_one = partial(self._explain, 1, ())
        self.route = Route(PATH, self.check, self.handle, self.response_lines, max_body_bytes)

    def response_lines(self, head: Head) -> bytes:
        """The CORS header lines of a response (Fetch standard §3.2.3); never an origin that is not configured."""
        if not self._origins:
            return b""
        origin, vary = ("*", b"") if "*" in self._origins else (head.headers.get("origin", ""), b"\r\nvary: origin")
        if origin not in self._origins:
            return vary
        return b"\r\naccess-control-allow-origin: %b\r\naccess-control-expose-headers: %b%b" % (
            origin.encode("latin-1"),
            b"x-request-id, retry-after",
            vary,
        )

    def check(self, head: Head) -> Response | None:
        """What the head alone decides: the key, the media type, the content coding."""
        if not self._keys.admit(head.headers):
            self._rejected["unauthorized"] += 1
            return UNAUTHORIZED
        media_type, coding = head.media_type, head.coding
        if media_type not in JSON_TYPES and media_type not in _LINES:
            return problem(
                415,
                f"Content-Type {media_type[:_ECHOED]!r} is not taken: send application/json or application/x-ndjson",
            )
        if coding not in CODINGS:
            return problem(
                415,
                f"Content-Encoding {coding[:_ECHOED]!r} is not taken: send gzip, deflate, zstd or none",
                {"Accept-Encoding": "gzip, deflate, zstd"},
            )
        return self._check_ack(head)

    def _check_ack(self, head: Head) -> Response | None:
        asked = head.headers.get(HEADER)
        if asked is None:
            return None
        head.ack = _ACKS.get(asked.strip().lower())
        if head.ack is None:
            return problem(400, f"Hermes-Ack {asked[:_ECHOED]!r} is not known: send accepted, durable or delivered")
        if head.ack is Ack.DURABLE and self._at_once:
            return problem(
                400,
                "Hermes-Ack: durable cannot be had here, for DURABILITY=memory keeps nothing on disk: send accepted or "
                "delivered",
            )
        return None

    def handle(self, head: Head, body: bytes) -> Response | Pending:
        """Decode the body and offer its events to the intake."""
        if head.plain and body[:1] == b"{":
            event = self._decode_one(body)
            if event is not None:
                if not self._at_once or head.ack is not None:
                    return self._submit([event], len(body), head.ack, Pending(_ONE_ACCEPTED, self._explain_one))
                if self._offer([event], len(body)):
                    return _ONE_ACCEPTED
        return self._handle_any(head, body)

    def _handle_any(self, head: Head, body: bytes) -> Response | Pending:
        coding = head.coding
        if coding:
            try:
                body = decode_content(coding, body, self._max_body_bytes)
            except ContentTooLarge:
                return too_large(self._max_body_bytes)
            except ContentError as error:
                return self._refuse(400, "encoding", f"the body is not valid {coding}: {error}")
        try:
            decoded = self._decoder.decode_lines(body) if head.media_type in _LINES else self._decoder.decode_json(body)
        except BadBody as error:
            return self._refuse(400, "malformed", str(error))
        if decoded.rejected:
            self._rejected["invalid"] += len(decoded.rejected)
        events = decoded.events
        if not events:
            return _nothing_valid(decoded)
        if len(events) > self._intake.capacity:
            return self._refuse(
                413,
                "too_many",
                f"{len(events)} events are more than QUEUE_SIZE, {self._intake.capacity}: send fewer a request",
            )
        if self._at_once and head.ack is None and self._offer(events, len(body)):
            return _accepted(decoded)
        pending = Pending(_accepted(decoded), partial(self._explain, len(events), decoded.rejected))
        return self._submit(events, len(body), head.ack, pending)

    def _submit(self, events: list[Event], size: int, ack: Ack | None, pending: Pending) -> Response | Pending:
        pending.call_off = self._intake.submit(events, size, self._ack if ack is None else ack, pending)
        return pending.response or pending

    def _explain(
        self, count: int, rejected: Sequence[Rejection], outcome: Outcome, receipt: Receipt | None
    ) -> Response:
        """The answer to a request whose ``count`` valid events have not come as far as it asked for."""
        after = self._intake.retry_after()
        if receipt is not None and outcome in _KNOWN_SINCE_TAKEN:
            return _tell_receipt(outcome, count, rejected, receipt, after)
        reason, detail, least = _REFUSALS[outcome]
        self._rejected[reason] += 1
        return problem(
            503,
            f"{detail}. Nothing of this request was taken: send it again",
            {"Retry-After": str(max(after, least))},
        )

    def _refuse(self, status: int, reason: str, detail: str) -> Response:
        self._rejected[reason] += 1
        return problem(status, detail)


def _tell_receipt(
    outcome: Outcome, count: int, rejected: Sequence[Rejection], receipt: Receipt, retry_after: int
) -> Response:
    """What became of events whose delivery the client waited for."""
    sinks = {
        name: {"delivered": sink.delivered, "dead_lettered": sink.dead_lettered, "dropped": sink.dropped}
        for name, sink in receipt.sinks.items()
    }
    known: dict[str, Any] = {"accepted": count, "durable": receipt.durable, "sinks": sinks}
    if rejected:
        known["rejected"] = rejected
    if outcome is Outcome.REFUSED:
        return problem(422, "a sink has refused some of the events for good: they are dead letters", **known)
    if outcome is Outcome.DROPPED:
        detail = "a sink will not get some of the events: send the request again"
        return problem(503, detail, {"Retry-After": str(retry_after)}, **known)
    detail = "the sinks have not stored all of the events yet"
    detail += "; the journal has them, and they will be delivered" if receipt.durable else ""
    return problem(504, detail, **known)


def _accepted(decoded: Decoded) -> Response:
    if decoded.rejected:
        return Response(202, msgspec.json.encode({"accepted": len(decoded.events), "rejected": decoded.rejected}))
    count = len(decoded.events)
    response = _ACCEPTED.get(count)
    if response is None:
        response = Response(202, b'{"accepted":%d}' % count)
        if len(_ACCEPTED) < _MOST_ACCEPTED:
            _ACCEPTED[count] = response
    return response


_ACKS = {ack.name.lower(): ack for ack in Ack}
_KNOWN_SINCE_TAKEN = {Outcome.REFUSED, Outcome.DROPPED, Outcome.LATE}
_REFUSALS = {  # reason in the metrics, words, and the least Retry-After in seconds
    Outcome.NO_ROOM: ("queue_full", "the queue is full", 1),
    Outcome.NO_SPACE: ("journal_full", "the journal is full: a sink is far behind", 10),
    Outcome.FAILED: ("journal_failed", "the journal cannot be written", 5),
}

_ONE_ACCEPTED = Response(202, b'{"accepted":1}')
_ACCEPTED: dict[int, Response] = {1: _ONE_ACCEPTED}
_MOST_ACCEPTED = 1024


def _nothing_valid(decoded: Decoded) -> Response:
    if not decoded.rejected:
        return problem(400, "the body holds no event", rejected=[])
    return problem(400, "no event of this request is valid", accepted=0, rejected=decoded.rejected)
