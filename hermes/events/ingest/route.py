"""The data routes of the events: from a parsed request to the answer that its events were taken, or to a refusal.

Plain functions, shared by both lanes and by all protocols: keys, codings, acknowledgements, room and CORS are the same
on every path, while a protocol reads the bodies and words the answers.

Invariant: a 2xx names exactly the events that the intake has taken; any other answer means that no event was taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from hermes.events.ack import HEADER, Ack, Outcome, Receipt, Tell
from hermes.events.decode import Decoded
from hermes.events.event import Event
from hermes.events.ingest.format import Answers, DataProtocol, OneEvent
from hermes.events.ingest.ids import HEADER as IDEMPOTENCY_KEY
from hermes.events.ingest.ids import WANTED as KEY_FORM
from hermes.events.ingest.ids import is_key
from hermes.events.ingest.pieces import UNREADABLE, decode_pieces
from hermes.events.ingest.refusal import Refusals, TooManyEvents, is_known_since_taken, tell_receipt
from hermes.events.ingest.request import EventRequest
from hermes.events.ingest.ticket import EventTicket
from hermes.net.http.content import CODINGS, PARTS_AT_ONCE, decode_parts
from hermes.net.http.cors import Origins
from hermes.net.http.extra_codings import MISSING_CODINGS
from hermes.net.http.head import Head, Route
from hermes.net.http.keys import Keys, offers_key, refusal_of
from hermes.net.http.pending import Pending
from hermes.net.http.rejection import Rejection
from hermes.net.http.response import ECHOED, Response
from hermes.net.http.work import CROWDED, Job, Steps, Workshop
from hermes.observe.traced_request import TracedRequest

_BRACE = 0x7B
_HOW = "the service lacks an extra: install 'hermes-events[codings]' there, or "
_ACKS = {ack.name.lower(): ack for ack in Ack}


class Intake(Protocol):
    """The side of the engine that takes events in. ``traced`` is their request, if it is traced."""

    capacity: int
    ack: Ack

    def find_refusal(self, size: int) -> Outcome | None:
        """Return why a request of ``size`` bytes would find no room, before its events are known. None: go on."""

    def offer(self, events: list[Event], size: int, traced: TracedRequest | None = None) -> bool:
        """Take all the events, which came in ``size`` bytes, into the queue, or none (False)."""

    def submit(
        self, events: list[Event], size: int, ack: Ack, tell: Tell, traced: TracedRequest | None = None
    ) -> Callable[[], None]:
        """Take all the events or none, and ``tell`` when they are as far as ``ack`` says.

        Returns a function that ends the wait.
        """

    def retry_after(self) -> int:
        """Return the whole seconds after which there may be room again."""


@dataclass(frozen=True)
class IngestOptions:
    """The collaborators and bounds that the routes of all protocols share.

    ``workshop`` decodes large bodies. Without a key in ``keys`` the routes are open to all. ``origins`` are the pages
    that may post; ``("*",)``: all.
    """

    refusals: Refusals
    workshop: Workshop
    max_body_bytes: int
    keys: Keys
    origins: Sequence[str] = ()


class Ingest:
    """The routes of one protocol.

    ::

        options = IngestOptions(Refusals(Counter(), 2**20), workshop, 2**20, Keys(["secret"]))
        routes = Ingest(intake, PostEvents(["*"], time.time), options).routes
    """

    def __init__(self, intake: Intake, protocol: DataProtocol, options: IngestOptions) -> None:
        self._intake = intake
        self._protocol = protocol
        self._options = options
        self._refusals = options.refusals
        self.response_lines = Origins(options.origins).response_lines
        # Bound here once: each request with one event takes this way.
        self._offer = intake.offer
        # Without a journal a request is answered when its events are in the queue, so in the call itself.
        self._at_once = intake.ack is Ack.ACCEPTED
        self.routes = tuple(
            Route(path, self.check, self.handle, self.response_lines, options.max_body_bytes) for path in protocol.paths
        )

    # --- heads -------------------------------------------------------------------------------------------------

    def check(self, head: Head) -> Response | EventRequest:
        """Decide by the head alone: the key, the media type, the content coding, the acknowledgement."""
        chosen, keys = self._protocol.choose(head), self._options.keys
        refused = chosen.answers.refused
        admit = None
        if not keys.admit(head.headers):
            if not self._protocol.key_in_body or offers_key(head.headers):
                return self._refusals.key(chosen.answers, refusal_of(head.headers))
            # The key may stand in the body: its room is small until it is read.
            admit = keys.admit_key
            head.keyless = True
        # After the key: a stranger learns nothing about the formats.
        if chosen.untaken:
            return refused(415, chosen.untaken)
        coding = head.coding
        if coding not in CODINGS:
            return refused(
                415,
                f"Content-Encoding {coding[:ECHOED]!r} is not taken: "
                f"{_HOW if coding in MISSING_CODINGS else ''}send gzip, deflate, zstd or none",
                # RFC 9110 §12.5.3: a 415 with this header is about the coding and not about the type.
                {"Accept-Encoding": "gzip, deflate, zstd"},
            )
        head.unique = head.unique or chosen.unique
        if IDEMPOTENCY_KEY in head.headers:
            # The next request has another key, so its head is another.
            head.unique = True
            if not is_key(head.headers[IDEMPOTENCY_KEY]):
                return refused(400, KEY_FORM)
        ack = self._check_ack(chosen.answers, head.headers.get(HEADER))
        return ack if isinstance(ack, Response) else EventRequest(head, chosen, ack, admit)

    def _check_ack(self, answers: Answers, asked: str | None) -> Response | Ack | None:
        if asked is None:
            return None
        ack = _ACKS.get(asked.strip().lower())
        if ack is None:
            return answers.refused(
                400, f"Hermes-Ack {asked[:ECHOED]!r} is not known: send accepted, durable or delivered"
            )
        # Refused and not answered at once: the client would believe that its events survive a crash.
        if ack is Ack.DURABLE and self._at_once:
            return answers.refused(
                400,
                "Hermes-Ack: durable cannot be had here, for DURABILITY=memory keeps nothing on disk: send accepted or "
                "delivered",
            )
        return ack

    # --- bodies ------------------------------------------------------------------------------------------------

    def handle(self, head: Head, body: bytes) -> Response | Pending:
        """Decode the body and offer its events to the intake; the usual body, one JSON object, by the shortest way."""
        request: EventRequest = head.state
        one = request.one
        size = len(body)
        # By its number: to compare a slice would take five times as long, and each request comes here.
        # Not 0: an empty body has no first byte.
        if one is not None and 0 < size <= request.format.at_once and body[0] == _BRACE:
            # None: an event with a fault, or in a form that needs a closer look. The long way tells.
            event = one.decode(body)
            if event is not None:
                if not self._at_once or request.ack is not None:
                    return self._submit_one(request, one, event, size, head.traced)
                if self._offer([event], size, head.traced):
                    return one.taken
        if head.coding or size > request.format.at_once:
            return self._handle_large(request, body, head.traced)
        try:
            decoded = request.format.decode(request, body)
        except UNREADABLE as error:
            return self._refuse_unreadable(request, error)
        return self._take(request, decoded, size, head.traced)

    def _submit_one(
        self, request: EventRequest, one: OneEvent, event: Event, size: int, traced: TracedRequest | None
    ) -> Response | Pending:
        ticket = EventTicket()
        ticket.expect(one.taken, partial(self._explain, request.format.answers, 1, ()))
        return self._submit(request, [event], size, ticket, traced)

    def _handle_large(self, request: EventRequest, body: bytes, traced: TracedRequest | None) -> Response | Pending:
        """Decode a body later, a piece at a time: the body is large, or may be large once its coding is undone."""
        # Before any work: a full queue must be the cheapest answer, because a client sends the body again.
        chosen, coding = request.format, request.head.coding
        refusal = self._intake.find_refusal(len(body))
        if refusal is not None:
            return self._explain(chosen.answers, 0, (), refusal, None)
        parts = decode_parts(coding, body, self._options.max_body_bytes)
        begun: list[bytes] = []
        size = 0
        try:
            # A body that turns out to be small is answered at once, without a turn of its own.
            for part in parts:
                begun.append(part)
                size += len(part)
                if size > chosen.at_once or len(begun) > PARTS_AT_ONCE:
                    break
            else:
                body = b"".join(begun)
                return self._take(request, chosen.decode(request, body), len(body), traced)
        except UNREADABLE as error:
            return self._refuse_unreadable(request, error)
        # The body is large: the client waits, and the workshop decodes it in turns with others.
        ticket = EventTicket()

        def refuse(reason: str) -> None:
            ticket.answer(self._refusals.crowded(chosen.answers, reason))

        steps = self._work(request, begun, parts, ticket, traced)
        job = Job(steps, refuse, keyless=request.admit is not None)
        ticket.call_off_by(job.call_off)
        # A coded body is held twice for a while, as it came and decoded.
        if not self._options.workshop.take(job, len(body) + (size if coding else 0)):
            return self._refusals.crowded(chosen.answers, CROWDED)
        return ticket

    def _work(
        self,
        request: EventRequest,
        begun: list[bytes],
        parts: Iterator[bytes],
        ticket: EventTicket,
        traced: TracedRequest | None,
    ) -> Steps:
        """Decode a large body piece by piece, and offer its events to the intake."""
        try:
            decoded = yield from decode_pieces(request, begun, parts, self._intake.capacity)
        except UNREADABLE as error:
            ticket.answer(self._refuse_unreadable(request, error))
            return
        # Size 0: the pieces have told the size of their events, which is in ``decoded``.
        result = self._take(request, decoded, 0, traced, ticket)
        # `_submit` may return the response that the intake has given the ticket already.
        if isinstance(result, Response) and ticket.response is None:
            ticket.answer(result)

    # --- events ------------------------------------------------------------------------------------------------

    def _take(
        self,
        request: EventRequest,
        decoded: Decoded,
        size: int,
        traced: TracedRequest | None,
        ticket: EventTicket | None = None,
    ) -> Response | Pending:
        """Offer the events of a request that came in ``size`` bytes. ``ticket``: the client waits already."""
        answers = request.format.answers
        if decoded.rejected:
            self._refusals.count_invalid(len(decoded.rejected))
            if traced is not None:
                traced.rejected = len(decoded.rejected)
        events = decoded.events
        if not events:
            return answers.nothing(decoded).about(decoded.rejected)
        # Such a request would never find room, so "send it again" would be the wrong answer.
        if len(events) > self._intake.capacity:
            return self._refuse_unreadable(request, TooManyEvents(len(events), self._intake.capacity))
        # The events may keep more bytes alive than came: those of a decoded coding, or of members that each repeats.
        size = decoded.size or size
        if self._at_once and request.ack is None and self._offer(events, size, traced):
            return answers.taken(decoded).about(decoded.rejected)
        if ticket is None:
            ticket = EventTicket()
        explain = partial(self._explain, answers, len(events), decoded.rejected)
        ticket.expect(answers.taken(decoded).about(decoded.rejected), explain)
        return self._submit(request, events, size, ticket, traced)

    def _submit(
        self, request: EventRequest, events: list[Event], size: int, ticket: EventTicket, traced: TracedRequest | None
    ) -> Response | Pending:
        ack = self._intake.ack if request.ack is None else request.ack
        ticket.call_off_by(self._intake.submit(events, size, ack, ticket, traced))
        # The intake may have answered at once; then no lane has to wait.
        return ticket.response or ticket

    def _explain(
        self, answers: Answers, count: int, rejected: Sequence[Rejection], outcome: Outcome, receipt: Receipt | None
    ) -> Response:
        """Answer a request whose ``count`` valid events have not come as far as the client asked for."""
        after = self._intake.retry_after()
        if receipt is not None and is_known_since_taken(outcome):
            return tell_receipt(answers, outcome, count, rejected, receipt, after).about(rejected)
        return self._refusals.outcome(answers, outcome, after)

    def _refuse_unreadable(self, request: EventRequest, error: Exception) -> Response:
        return self._refusals.unreadable(request.format.answers, request.head.coding, error)
