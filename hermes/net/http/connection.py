"""One connection of the fast lane, sans-IO: bytes in, responses out, in order.

The owner of the socket (the reactor, or a task under TLS) calls `Connection.receive` with the bytes of the client, and
sends the bytes in ``out``. Each request gets a slot: a response that is ready, or a ticket that a later moment answers.
Slots are sent in the order of the requests, so that pipelining stays right.

Invariants: the same bytes cut at any point give the same responses; no bytes of a client raise; the memory of a
connection is bounded (head, body, slots, unsent bytes).

The file has more than 400 lines, because a phase, the order of the responses and the budget change together: split over
two objects, each request would pay for the way between them.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from hermes.net.http.body import BodyRefused, IncomingBody
from hermes.net.http.head import KEEP_ALIVE, MAX_HEAD_BYTES, BadHead, Head
from hermes.net.http.lane import Lane
from hermes.net.http.pending import Pending, Slot
from hermes.net.http.phase import TRANSITIONS, Phase, PhaseEvent
from hermes.net.http.response import CONTINUE, Response, crowded, problem

MAX_SLOTS = 64
"""The most requests of one connection that may wait for their responses at once. Further requests are left unread."""

MAX_UNSENT = 64 * 2**10
"""The most bytes of responses that a client may leave unread, before its requests are left unread too."""

FREE_BYTES = 4 * 2**10
"""The bytes of heads, unread requests and unsent responses that a connection may hold outside of the body budget."""

# The body of a refused request is read past up to this size, so that the connection can go on. After a longer body the
# connection ends: to read past megabytes costs more than a new connection.
_MAX_SKIPPED = 64 * 2**10
_CROWDED = crowded(close=True)
_TOO_MUCH_HELD = "the connection was ended: too much is held for clients that send slowly or do not read"
_END_OF_HEAD = b"\r\n\r\n"
_BARE_LF = re.compile(rb"(?<!\r)\n")
# Old clients send an empty line after a body; RFC 9112 §2.2 asks servers to skip empty lines before a request. All of
# them in one step: with a step for each, a megabyte of them would take quadratic time.
_skip_empty_lines = re.compile(rb"(?:\r\n)*+").match
_HAS_BARE_LF = problem(400, "the request is malformed: a line ends in a bare LF", close=True)


# Names of the module: looking a member up on its enum costs more than the rest of a comparison.
_IDLE, _HEAD, _BODY, _CLOSING, _HANDOVER = Phase
_LEFT_UNREAD, _BODY_BEGUN, _REQUEST_READ, _NOT_OURS, _LAST_ANSWER, _ENDED = PhaseEvent


class Connection:
    """The protocol state of one client.

    ``on_ready()`` is called when a ticket was answered and its response is in ``out``. ``client()`` returns the
    client's address for the log. ::

        connection = Connection(lane, on_ready=lambda: None)
        connection.receive(b"POST /events HTTP/1.1\\r\\n...")
        sock.sendall(b"".join(connection.out))

    Attributes: 15, because each request passes here, and a look into another object for each step costs it time.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_client",
        "_held",
        "_known",
        "_known_head",
        "_known_since",
        "_lane",
        "_on_ready",
        "_scanned",
        "deferred",
        "out",
        "phase",
        "unsent",
        "waiting",
    )

    def __init__(self, lane: Lane, on_ready: Callable[[], None], client: Callable[[], str] = lambda: "") -> None:
        self._lane = lane
        self._client = client
        self._on_ready = on_ready
        self.phase = _IDLE
        self.out: list[bytes] = []
        self.unsent = 0
        self._buffer = b""
        self._scanned = 0
        # The head of the last usual request, with its bytes: a client tends to send the same head again, and to compare
        # with one head is cheaper than to look it up.
        self._known_head: Head | None = None
        self._known = b""
        self._known_since = lane.heads.forgotten
        # Not None in the phase BODY alone.
        self._body: IncomingBody | None = None
        # Bytes taken of the keyless clients' budget, for everything but bodies: a connection that holds much without a
        # whole request has shown no key.
        self._held = 0
        # True: the turn was over, and requests or chunks that have come wait for the next turn.
        self.deferred = False
        # The slots from the first response that is not ready on. Empty for a client that waits for nothing.
        self.waiting: deque[Slot] = deque()

    # --- what the owner of the socket calls --------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes of the client. Afterwards ``out`` has responses, or ``phase`` is another, or both."""
        if self.phase is not _IDLE:
            if self.phase is _BODY:
                data = self._receive_body(data)
                if self.deferred:
                    # The rest of the chunks is kept for the next turn.
                    return
            elif self.phase is _CLOSING:
                return
            elif self.phase is _HANDOVER:
                # The control lane reads the request, and what the client sent behind it.
                self._buffer += data
                return
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        if data:
            self.receive_heads(data)

    def receive_eof(self) -> None:
        """Take the end of the client's side: call waits off, send the responses that are left, then end."""
        self.end()
        self.call_off()

    def end(self) -> None:
        """Read no further request. The requests that were read still get their answers."""
        self._abandon_request()
        self._move(_ENDED)

    def hand_over(self) -> None:
        """Leave for the control lane before the first request, because the client speaks HTTP/2."""
        self._move(_NOT_OURS)

    def _move(self, event: PhaseEvent) -> None:
        """Change the phase by the table. No other code assigns the phase."""
        self.phase = TRANSITIONS[self.phase, event]

    def call_off(self) -> None:
        """End the waits for responses. Each route decides the answer (the queue is full, try again)."""
        # A copy: an answer takes its slot out of the deque.
        for slot in tuple(self.waiting):
            if isinstance(slot, Pending):
                slot.call_off()

    def time_out(self) -> None:
        """End a phase that took too long, with a 408 if a request has begun."""
        # For the date of the answer: this is called outside of a turn.
        self._lane.begin_turn()
        if self.phase is _HEAD or self.phase is _BODY:
            what = "headers" if self.phase is _HEAD else "body"
            self._refuse(problem(408, f"the request's {what} came too slowly", close=True))
        self.end()

    def drop(self) -> None:
        """Give everything back: the socket is gone. Waits are called off, and their answers are thrown away."""
        self.end()
        self.call_off()
        self.waiting.clear()
        self.out.clear()
        self._buffer = b""
        self.deferred = False
        self.unsent = 0
        self.hold()
        self._let_go_of_owner()

    def hold(self) -> bool:
        """Bring the budget in line with the bytes that the connection holds. False: no room is left, so end it.

        The owner of the socket calls this after it has sent as much as the client takes.
        """
        if self._reserve_held():
            return True
        self._lane.refusals.tell(_UNREADABLE.route_name, Response(503, detail=_TOO_MUCH_HELD), b"", self._client)
        return False

    def _reserve_held(self) -> bool:
        held = len(self._buffer) + self.unsent
        # A client that pipelines has ready responses that wait behind one that is not. A single slot holds no bytes.
        if len(self.waiting) > 1:
            held += sum([len(slot.data) for slot in self.waiting if slot.data is not None])
        change = max(0, held - FREE_BYTES) - self._held
        keyless = self._lane.body_budget.keyless
        if change < 0:
            keyless.release(-change)
        elif change and not keyless.reserve(change):
            return False
        self._held += change
        return True

    @property
    def answered(self) -> bool:
        """Whether no request is in progress and no response is owed."""
        return not self.waiting and self.phase is not _HEAD and self.phase is not _BODY

    @property
    def wants_bytes(self) -> bool:
        """Whether the client may send more now: not while too many of its requests are unanswered, or unsent."""
        room = len(self.waiting) < MAX_SLOTS and self.unsent < MAX_UNSENT
        return room and self.phase is not _HANDOVER and not self.deferred

    @property
    def expected(self) -> int:
        """The bytes of the present body that have not come yet, if its head tells the size; else 0."""
        return 0 if self._body is None else self._body.missing

    def take_handover(self) -> bytes:
        """Return the bytes for the control lane. Call this once the phase is HANDOVER and everything is answered."""
        data, self._buffer = self._buffer, b""
        self.hold()
        self._let_go_of_owner()
        return data

    def _let_go_of_owner(self) -> None:
        """Break the reference cycle with the owner of the socket: the service's garbage collector looks seldom."""
        self._on_ready = _tell_nobody
        self._client = _nobody

    def resume(self) -> None:
        """Go on with what was left unread: there is room for responses, or a new turn has begun."""
        self.deferred = False
        if self._buffer and self.phase in {_IDLE, _HEAD, _BODY}:
            data, self._buffer = self._buffer, b""
            self.receive(data)

    def defer(self) -> None:
        """Leave unread requests to the next turn, although there is room for responses again."""
        if self._buffer and self.phase in {_IDLE, _HEAD}:
            self._move(_LEFT_UNREAD)
            self.deferred = True

    # --- heads -------------------------------------------------------------------------------------------------

    def receive_heads(self, data: bytes) -> None:
        """Serve every complete request in bytes that begin with a head, and keep the rest.

        The usual request comes whole, with a head that is known. It is served in this loop, because it has to be fast.
        """
        lane, position, size, begun = self._lane, 0, len(data), False
        recall = lane.recall
        # The keys have changed since, so the head has to be judged again.
        if self._known_since != lane.heads.forgotten:
            self._known_since, self._known_head = lane.heads.forgotten, None
        while position < size:
            if self.unsent >= MAX_UNSENT or len(self.waiting) >= MAX_SLOTS:
                self._keep(data, position)
                return
            if begun and lane.clock() > lane.turn_ends:
                # 64 KiB may hold hundreds of requests, each of which may take some milliseconds.
                self._keep(data, position)
                if self._reserve_held():
                    self._move(_LEFT_UNREAD)
                    self.deferred = True
                    return
                # There is no room to leave the requests, so serve them now. The service chose to leave them, so the
                # client must not lose its connection for that.
                self._buffer = b""
            begun = True
            # Most clients send the same head each time: to compare is cheaper than to search for the end of the head.
            head = self._known_head
            if head is not None and data.startswith(self._known, position):
                end = position + len(self._known)
            else:
                end = data.find(_END_OF_HEAD, self._scanned or position) + 4
                if end < 4 or end - position > MAX_HEAD_BYTES:
                    self._keep_partial_head(data, position)
                    return
                # Another connection may have sent this head before.
                known = data[position:end]
                head = recall(known)
                if head is not None:
                    self._known, self._known_head = known, head
            self._scanned = 0
            if head is None or (stop := end + head.content_length) > size:
                data = self._receive_unusual(head, data[position:], end - position)
                position, size = 0, len(data)
                continue
            position = stop
            # Asked first: nearly always the phase stays, and the table costs more than the question.
            if self.phase is not _IDLE:
                self._move(_REQUEST_READ)
            result = head.handle(head, data[end:stop])
            if isinstance(result, Pending):
                self._wait(head, result)
            # The short way of `_answer`: most answers end here.
            elif result.usual and head.keep_alive and not (self.waiting or lane.draining):
                answer = result.render(lane.date, lane.request_id(), head.response_lines)
                self.out.append(answer)
                self.unsent += len(answer)
                lane.answered[head.route_name, result.status] += 1
                continue
            else:
                self._answer(head, result)
            if self.phase is _CLOSING:
                return

    def _receive_unusual(self, head: Head | None, data: bytes, end: int) -> bytes:
        """Serve a request whose head is new (None), or whose body is not all here. Returns the bytes after it."""
        if head is None:
            start = _skip_empty_lines(data).end()  # type: ignore[union-attr]
            if start >= end:
                return data[start:]
            raw = data[start:end]
            if _BARE_LF.search(raw):
                self._refuse(_HAS_BARE_LF)
                return b""
            try:
                head = self._lane.heads.parse(raw)
            except BadHead as error:
                self._refuse(error.response)
                return b""
            if head.route is None:
                self._move(_NOT_OURS)
                self._buffer = data[start:]
                return b""
        return self._begin_body(head, data[end:])

    def _keep(self, data: bytes, position: int) -> None:
        self._buffer = data[position:] if position else data

    def _keep_partial_head(self, data: bytes, position: int) -> None:
        self._keep(data, position)
        kept = self._buffer
        # A bare LF never ends a line here, so such a head has no end: refuse it now, and not after a timeout. The
        # search goes on where the last one ended, or a head in many small parts would take quadratic time.
        if _BARE_LF.search(kept, max(0, self._scanned - 1), MAX_HEAD_BYTES):
            self._refuse(_HAS_BARE_LF)
            return
        if len(kept) > MAX_HEAD_BYTES:
            self._refuse(problem(431, f"the request's headers are larger than {MAX_HEAD_BYTES} bytes", close=True))
            return
        self._move(_LEFT_UNREAD)
        self._scanned = max(0, len(kept) - 3)
        if len(kept) > FREE_BYTES and not self.hold():
            self._refuse(_CROWDED)

    # --- bodies ------------------------------------------------------------------------------------------------

    def _begin_body(self, head: Head, data: bytes) -> bytes:
        """Begin a body that is chunked, refused or incomplete. Returns the bytes after it, if it is all here."""
        refusal = head.refusal
        if refusal is not None and (
            refusal.close or head.chunked or head.expect_continue or head.content_length > _MAX_SKIPPED
        ):
            self._refuse(refusal, head)
            return b""
        assert head.route is not None  # noqa: S101 - the caller has seen it
        lane = self._lane
        # A client whose key is in the body may be anyone until the body is read. Its share is small, so that strangers
        # cannot fill the budget of clients with a key.
        budget = lane.body_budget.keyless if head.keyless else lane.body_budget
        # A client that has sent some of its body already does not wait for this.
        if head.expect_continue and not data:
            self._push(CONTINUE)
        lane.inflight += 1
        self._body = IncomingBody(head, head.route.max_body_bytes, budget)
        self._move(_BODY_BEGUN)
        return self._receive_body(data)

    def _receive_body(self, data: bytes) -> bytes:
        """Take bytes of the body, and answer the request once the body is whole. Returns the bytes after it."""
        incoming = self._body
        assert incoming is not None  # noqa: S101 - the phase says so
        head = incoming.head
        try:
            rest = self._feed(incoming, data)
        except BodyRefused as refused:
            self._refuse(refused.response, head)
            return b""
        if not incoming.done:
            return b""
        body = bytes(incoming.gathered)
        # Before the route: the events of the body take room of their own, and the answer may end the connection.
        self._abandon_request()
        self._move(_REQUEST_READ)
        result = head.handle(head, body) if head.refusal is None else head.refusal
        if isinstance(result, Pending):
            self._wait(head, result)
        else:
            self._answer(head, result)
        return b"" if self.phase is _CLOSING else rest

    def _feed(self, incoming: IncomingBody, data: bytes) -> bytes:
        """Feed the body until the turn is over, and keep the chunks of the next turn. Returns the bytes after the body.

        Raises `BodyRefused`.
        """
        lane = self._lane
        rest = incoming.feed(data)
        while rest and not incoming.done:
            if lane.clock() > lane.turn_ends:
                self._buffer = rest
                if self._reserve_held():
                    self.deferred = True
                    return b""
                # There is no room to leave the chunks, so take them now.
                self._buffer = b""
            rest = incoming.feed(rest)
        return rest

    def _abandon_request(self) -> None:
        """Forget the request whose body is coming, and give back the room that it held."""
        if self._body is not None:
            self._lane.inflight -= 1
            self._body.release()
            self._body = None

    # --- responses ---------------------------------------------------------------------------------------------

    def _answer(self, head: Head, response: Response, *, last: bool = False) -> None:
        self._lane.answered[head.route_name, response.status] += 1
        self._push(self._finish(head, response, last=last))

    def _wait(self, head: Head, pending: Pending) -> None:
        lane = self._lane
        self.waiting.append(pending)
        lane.inflight += 1
        # The observed duration ends with the answer, so a commit is part of the request's time.
        pending.began = lane.clock()
        pending.head = head
        pending.wait(self._fill)
        if not head.keep_alive:
            self._move(_LAST_ANSWER)

    def _fill(self, pending: Pending, response: Response) -> None:
        """Take the response of a ticket, and send every response that is ready, in the order of the requests."""
        lane, head = self._lane, pending.head
        lane.begin_turn()
        lane.inflight -= 1
        lane.observe(head.route_name, response.status, lane.clock() - pending.began, 1)
        pending.data = self._finish(head, response)
        slots = self.waiting
        while slots and (data := slots[0].data) is not None:
            slots.popleft()
            self.out.append(data)
            self.unsent += len(data)
        self._on_ready()

    def _finish(self, head: Head, response: Response, *, last: bool = False) -> bytes:
        """Return the bytes of the response. Decides whether the connection goes on after it."""
        lane, lines = self._lane, head.response_lines
        if last or response.close or not head.keep_alive or lane.draining:
            # Never both lines: a client would read one of them.
            lines = lines.removesuffix(KEEP_ALIVE) + b"\r\nconnection: close"
            self._move(_LAST_ANSWER)
            if self.phase is _CLOSING:
                # The client is told that this is the last answer, so later requests must have no effect.
                self._abandon_request()
                self._buffer = b""
                self.deferred = False
        request_id = head.request_id or lane.request_id()
        if not response.usual:
            # The response and the span of a traced request must have the same id.
            traced = response.traced
            if traced is not None:
                request_id = traced.request_id
            lane.refusals.tell(head.route_name, response, request_id, self._client)
        return response.render(lane.date, request_id, lines)

    def _refuse(self, response: Response, head: Head | None = None) -> None:
        """Answer a request whose end cannot be found, or is too far away, and end the connection."""
        self._abandon_request()
        self._answer(head or _UNREADABLE, response, last=True)

    def _push(self, data: bytes) -> None:
        if self.waiting:
            self.waiting.append(Slot(data))
        else:
            self.out.append(data)
            self.unsent += len(data)


_UNREADABLE = Head("", "", {}, keep_alive=False)


def _tell_nobody() -> None:
    pass


def _nobody() -> str:
    return ""
