"""The data routes: from a parsed request to the answer that its events were taken, or to the words that say why not.

Plain functions, shared by both lanes and by all protocols: keys, codings, acknowledgements, room and CORS are the same
on every path, while a protocol reads the bodies and words the answers. Invariant: a 2xx names exactly the events that
the intake has taken; any other answer means that none of them was. The edge lends the intake and the protocol; this
module knows no engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

from hermes.ack import HEADER, Ack, Outcome, Receipt, Settle
from hermes.decode import Decoded, Rejection
from hermes.event import Event
from hermes.http.content import CODINGS, ContentError, ContentTooLarge, decode_parts
from hermes.http.cors import Origins
from hermes.http.extra_codings import MISSING_CODINGS
from hermes.http.format import Answers, DataProtocol, Format
from hermes.http.head import Head, Route, too_large_detail
from hermes.http.ids import HEADER as IDEMPOTENCY_KEY
from hermes.http.ids import WANTED as KEY_FORM
from hermes.http.ids import is_key
from hermes.http.keys import CHALLENGE, KeyRefused, Keys, offers_key, refusal_of
from hermes.http.pending import Pending
from hermes.http.pieces import UNREADABLE, TooManyEvents, decode_pieces
from hermes.http.response import Response
from hermes.http.work import CROWDED, Job, Steps, Workshop
from hermes.traced import TracedRequest

ECHOED = 100
"""Characters of what a client sent that it is shown again."""

_PARTS_AT_ONCE = 8  # of a body with a coding: a few milliseconds, whatever they give


class Intake(Protocol):
    """What takes events in: the engine, as the lanes see it."""

    capacity: int
    ack: Ack
    traced: TracedRequest | None

    def find_refusal(self, size: int) -> Outcome | None:
        """Why a request of ``size`` bytes would find no room, as far as is known before its events are; None: go on."""

    def offer(self, events: list[Event], size: int) -> bool:
        """Take all the events, which came in ``size`` bytes, into the queue, or none (False)."""

    def submit(self, events: list[Event], size: int, ack: Ack, settle: Settle) -> Callable[[], None]:
        """Take all the events or none, and settle when they are as far as ``ack`` says. Returns what calls it off."""

    def retry_after(self) -> int:
        """Whole seconds after which there may be room again."""


class Ingest:
    """The routes of one protocol and what they are configured with.

    ``workshop`` decodes large bodies. ``keys`` without one: open to all; ``origins`` may be ``("*",)``.
    """

    def __init__(
        self,
        intake: Intake,
        protocol: DataProtocol,
        rejected: Counter[str],
        *,
        workshop: Workshop,
        max_body_bytes: int,
        keys: Keys,
        origins: Sequence[str] = (),
    ) -> None:
        self._intake = intake
        self._workshop = workshop
        self._protocol = protocol
        self._rejected = rejected
        self._max_body_bytes = max_body_bytes
        self._keys = keys
        self.response_lines = Origins(origins).response_lines
        self._offer = intake.offer
        self._ack = intake.ack
        self._at_once = intake.ack is Ack.ACCEPTED
        handle = self._handle_any
        if protocol.decode_one is not None:
            self._decode_one = protocol.decode_one
            self._explain_one = partial(self._explain, protocol.answers, 1, ())
            handle = self._handle_one
        self.routes = tuple(
            Route(path, self.check, handle, self.response_lines, max_body_bytes) for path in protocol.paths
        )

    def check(self, head: Head) -> Response | None:
        """What the head alone decides: the key, the media type, the content coding. Sets the head's ``format``."""
        head.format = chosen = self._protocol.choose(head)
        refused = chosen.answers.refused
        if not self._keys.admit(head.headers):
            if not self._protocol.key_in_body or offers_key(head.headers):
                return self._refuse_key(chosen.answers, refusal_of(head.headers))
            head.admit = self._keys.admit_key
        if chosen.untaken:
            return refused(415, chosen.untaken)
        coding = head.coding
        if coding not in CODINGS:
            return refused(
                415,
                f"Content-Encoding {coding[:ECHOED]!r} is not taken: "
                f"{_HOW if coding in MISSING_CODINGS else ''}send gzip, deflate, zstd or none",
                {"Accept-Encoding": "gzip, deflate, zstd"},
            )
        if IDEMPOTENCY_KEY in head.headers:
            head.unique = True  # the next request has another key
            if not is_key(head.headers[IDEMPOTENCY_KEY]):
                return refused(400, KEY_FORM)
        return self._check_ack(head)

    def _check_ack(self, head: Head) -> Response | None:
        asked = head.headers.get(HEADER)
        if asked is None:
            return None
        head.ack = _ACKS.get(asked.strip().lower())
        refused = head.format.answers.refused
        if head.ack is None:
            return refused(400, f"Hermes-Ack {asked[:ECHOED]!r} is not known: send accepted, durable or delivered")
        if head.ack is Ack.DURABLE and self._at_once:
            return refused(
                400,
                "Hermes-Ack: durable cannot be had here, for DURABILITY=memory keeps nothing on disk: send accepted or "
                "delivered",
            )
        return None

    def _handle_one(self, head: Head, body: bytes) -> Response | Pending:
        """Decode the body and offer its events to the intake; the usual body, one JSON object, by the shortest way."""
        if head.plain and body[:1] == b"{":
            event = self._decode_one(body)
            if event is not None:
                if not self._at_once or head.ack is not None:
                    return self._submit([event], len(body), head.ack, Pending(ONE_ACCEPTED, self._explain_one))
                if self._offer([event], len(body)):
                    return ONE_ACCEPTED
        return self._handle_any(head, body)

    def _handle_any(self, head: Head, body: bytes) -> Response | Pending:
        """Decode the body and offer its events to the intake."""
        if head.coding or len(body) > head.format.at_once:
            return self._handle_large(head, body)
        try:
            decoded = head.format.decode(head, body)
        except UNREADABLE as error:
            return self._refuse_unreadable(head, error)
        return self._take(head, decoded, len(body))

    def _handle_large(self, head: Head, body: bytes) -> Response | Pending:
        """A body that is large, or may be once it has no coding: it is decoded later, a piece at a time."""
        chosen = head.format
        refusal = self._intake.find_refusal(len(body))
        if refusal is not None:
            return self._explain(chosen.answers, 0, (), refusal, None)
        parts = decode_parts(head.coding, body, self._max_body_bytes)
        begun: list[bytes] = []
        size = 0
        try:
            for part in parts:
                begun.append(part)
                size += len(part)
                if size > chosen.at_once or len(begun) > _PARTS_AT_ONCE:
                    break
            else:
                body = b"".join(begun)
                return self._take(head, chosen.decode(head, body), len(body))
        except UNREADABLE as error:
            return self._refuse_unreadable(head, error)
        ticket = Pending()

        def refuse(reason: str) -> None:
            ticket.answer(self._refuse_crowded(chosen, reason))

        job = Job(self._work(head, begun, parts, ticket), refuse, keyless=head.admit is not None)
        ticket.call_off = job.call_off
        if not self._workshop.take(job, len(body) + (size if head.coding else 0)):
            return self._refuse_crowded(chosen, CROWDED)
        return ticket

    def _work(self, head: Head, begun: list[bytes], parts: Iterator[bytes], ticket: Pending) -> Steps:
        """Decode a large body piece by piece, and offer its events to the intake."""
        traced = self._intake.traced
        try:
            decoded = yield from decode_pieces(head, begun, parts, self._intake.capacity)
        except UNREADABLE as error:
            ticket.answer(self._refuse_unreadable(head, error))
            return
        ticket.rejected = len(decoded.rejected)
        present, self._intake.traced = self._intake.traced, traced
        try:
            result = self._take(head, decoded, 0, ticket)
        finally:
            self._intake.traced = present
        if isinstance(result, Response) and ticket.response is None:
            ticket.answer(result)

    def _take(self, head: Head, decoded: Decoded, size: int, pending: Pending | None = None) -> Response | Pending:
        """Offer the events of a request that came in ``size`` bytes. ``pending``: the client waits for that already."""
        answers = head.format.answers
        if decoded.rejected:
            self._rejected["invalid"] += len(decoded.rejected)
        events = decoded.events
        if not events:
            return answers.nothing(decoded).about(decoded.rejected)
        if len(events) > self._intake.capacity:
            return self._refuse_unreadable(head, TooManyEvents(len(events), self._intake.capacity))
        size = decoded.size or size
        if self._at_once and head.ack is None and self._offer(events, size):
            return answers.taken(decoded).about(decoded.rejected)
        explain = partial(self._explain, answers, len(events), decoded.rejected)
        if pending is None:
            pending = Pending()
        pending.expect(answers.taken(decoded).about(decoded.rejected), explain)
        return self._submit(events, size, head.ack, pending)

    def _submit(self, events: list[Event], size: int, ack: Ack | None, pending: Pending) -> Response | Pending:
        pending.call_off = self._intake.submit(events, size, self._ack if ack is None else ack, pending)
        return pending.response or pending

    def _explain(
        self, answers: Answers, count: int, rejected: Sequence[Rejection], outcome: Outcome, receipt: Receipt | None
    ) -> Response:
        """The answer to a request whose ``count`` valid events have not come as far as it asked for."""
        after = self._intake.retry_after()
        if receipt is not None and outcome in _KNOWN_SINCE_TAKEN:
            return _tell_receipt(answers, outcome, count, rejected, receipt, after).about(rejected)
        if outcome is Outcome.TOO_LARGE:
            return self._refuse(
                answers,
                413,
                "too_large",
                "the journal keeps a request in records of 5,000 events and at most 256 MiB, all of them within "
                "JOURNAL_MAX_BYTES, and this one is larger: send fewer events a request",
            )
        reason, detail, least = _REFUSALS[outcome]
        self._rejected[reason] += 1
        return answers.refused(
            503,
            f"{detail}. Nothing of this request was taken: send it again",
            {"Retry-After": str(max(after, least))},
        )

    def _refuse(self, answers: Answers, status: int, reason: str, detail: str) -> Response:
        self._rejected[reason] += 1
        return answers.refused(status, detail)

    def _refuse_unreadable(self, head: Head, error: Exception) -> Response:
        """The answer to a body that cannot be decoded, or holds too much: one of `UNREADABLE`."""
        answers = head.format.answers
        if isinstance(error, ContentTooLarge):
            return answers.refused(413, str(error) or too_large_detail(self._max_body_bytes))
        if isinstance(error, TooManyEvents):
            return self._refuse(answers, 413, "too_many", str(error))
        if isinstance(error, ContentError):
            return self._refuse(answers, 400, "encoding", f"the body is not valid {head.coding}: {error}")
        if isinstance(error, KeyRefused):
            return self._refuse_key(answers, str(error))
        return self._refuse(answers, 400, "malformed", str(error))

    def _refuse_crowded(self, chosen: Format, reason: str) -> Response:
        self._rejected["crowded"] += 1
        return chosen.answers.refused(
            503, f"{reason}. Nothing of this request was taken: send it again", {"Retry-After": "1"}
        )

    def _refuse_key(self, answers: Answers, words: str) -> Response:
        self._rejected["unauthorized"] += 1
        return answers.refused(401, words, CHALLENGE)


def _tell_receipt(
    answers: Answers,
    outcome: Outcome,
    count: int,
    rejected: Sequence[Rejection],
    receipt: Receipt,
    retry_after: int,
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
        return answers.refused(422, "a sink has refused some of the events for good: they are dead letters", **known)
    if outcome is Outcome.DROPPED:
        detail = "a sink will not get some of the events: send the request again"
        return answers.refused(503, detail, {"Retry-After": str(retry_after)}, **known)
    detail = "the sinks have not stored all of the events yet"
    detail += "; the journal has them, and they will be delivered" if receipt.durable else ""
    return answers.refused(504, detail, **known)


ONE_ACCEPTED = Response(202, b'{"accepted":1}')
"""The answer to one event of Hermes's own format."""

_HOW = "the service lacks an extra: install 'hermes-events[codings]' there, or "
_ACKS = {ack.name.lower(): ack for ack in Ack}
_KNOWN_SINCE_TAKEN = {Outcome.REFUSED, Outcome.DROPPED, Outcome.LATE}
_REFUSALS = {  # reason in the metrics, words, and the least Retry-After in seconds
    Outcome.NO_ROOM: ("queue_full", "the queue is full", 1),
    Outcome.NO_SPACE: ("journal_full", "the journal is full: a sink is far behind", 10),
    Outcome.FAILED: ("journal_failed", "the journal cannot be written", 5),
}
