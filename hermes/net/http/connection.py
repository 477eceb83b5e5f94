"""One connection of the fast lane, sans-IO: bytes in, slots out, in order.

Whoever owns the socket (the reactor, or a task under TLS) calls `receive` with what came, sends what is in ``out``, and
asks for nothing else. Each request gets a slot: bytes that are ready, or a wait that a later moment fills. Slots are
sent in the order of the requests, so that pipelining stays right. Invariants: the same bytes cut at any point give the
same responses; nothing a client sends raises; what a connection holds is bounded (head, body, slots, unsent bytes).
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
"""Requests of one connection that may wait for their responses at once; more are left unread."""

MAX_UNSENT = 64 * 2**10
"""Bytes of responses that a client may leave unread before its requests are left unread too."""

FREE_BYTES = 4 * 2**10
"""What a connection may hold of heads, of requests left unread and of unsent responses outside of the body budget."""

_MAX_SKIPPED = 64 * 2**10  # a refused request's body up to this is read past; after a longer one the connection ends
_CROWDED = crowded(close=True)
_TOO_MUCH_HELD = "the connection was ended: too much is held for clients that send slowly or do not read"
_END_OF_HEAD = b"\r\n\r\n"
_BARE_LF = re.compile(rb"(?<!\r)\n")
_skip_empty_lines = re.compile(rb"(?:\r\n)*+").match  # before a request (RFC 9112 §2.2)
_HAS_BARE_LF = problem(400, "the request is malformed: a line ends in a bare LF", close=True)


# As names of the module, for looking a member up on its enum costs more than the rest of a comparison.
_IDLE, _HEAD, _BODY, _CLOSING, _HANDOVER = Phase
_LEFT_UNREAD, _BODY_BEGUN, _REQUEST_READ, _NOT_OURS, _LAST_ANSWER, _ENDED = PhaseEvent


class Connection:
    """The protocol state of one client.

    ``on_ready`` is called when a wait has put bytes into ``out``. ``client`` gives the client's address for the log.

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
        self._known_head: Head | None = None  # of the last usual request; a client tends to send the same again
        self._known = b""
        self._known_since = lane.heads.forgotten
        self._body: IncomingBody | None = None  # of the request in the phase BODY
        self._held = 0  # bytes of the keyless clients' budget, for all but bodies
        self.deferred = False  # the turn was over before every request that had come was served
        self.waiting: deque[Slot] = deque()  # from the first response that is not ready on

    # --- what the owner of the socket calls --------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Bytes came. Ends with responses in ``out``, or with another ``phase``, or with both."""
        if self.phase is not _IDLE:
            if self.phase is _BODY:
                data = self._receive_body(data)
            elif self.phase is _CLOSING:
                return
            elif self.phase is _HANDOVER:
                self._buffer += data
                return
        if self._buffer:
            data = self._buffer + data
            self._buffer = b""
        if data:
            self.receive_heads(data)

    def receive_eof(self) -> None:
        """The client sends no more. Waits are called off, what it is still owed is sent, then the connection ends."""
        self.end()
        self.call_off()

    def end(self) -> None:
        """Read no further request. What is owed is still answered."""
        self._abandon_request()
        self._move(_ENDED)

    def hand_over(self) -> None:
        """Leave for the control lane before the first request: the client speaks HTTP/2."""
        self._move(_NOT_OURS)

    def _move(self, event: PhaseEvent) -> None:
        """The only place where a phase changes."""
        self.phase = TRANSITIONS[self.phase, event]

    def call_off(self) -> None:
        """End the waits for responses: each is answered as its route says (the queue is full, try again)."""
        for slot in tuple(self.waiting):
            if isinstance(slot, Pending):
                slot.call_off()

    def time_out(self) -> None:
        """The current phase took too long: 408 for a request that has begun, and the end."""
        self._lane.begin_turn()
        if self.phase is _HEAD or self.phase is _BODY:
            what = "headers" if self.phase is _HEAD else "body"
            self._refuse(problem(408, f"the request's {what} came too slowly", close=True))
        self.end()

    def drop(self) -> None:
        """The socket is gone: give back what the connection holds, and call its waits off unheard."""
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
        """Bring the budget in line with what the connection holds. False: there is no room, and it has to end.

        Called by the owner of the socket once it has sent what the client takes.
        """
        if self._reserve_held():
            return True
        self._lane.refusals.tell(_UNREADABLE.route_name, Response(503, detail=_TOO_MUCH_HELD), b"", self._client)
        return False

    def _reserve_held(self) -> bool:
        held = len(self._buffer) + self.unsent
        if len(self.waiting) > 1:  # responses that are ready wait behind one that is not
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
        """Whether the client may send more now: not while too much of what it asked for is unanswered or unread."""
        room = len(self.waiting) < MAX_SLOTS and self.unsent < MAX_UNSENT
        return room and self.phase is not _HANDOVER and not self.deferred

    @property
    def expected(self) -> int:
        """Bytes of the present request's body that have not come yet, as far as its head tells."""
        return 0 if self._body is None else self._body.missing

    def take_handover(self) -> bytes:
        """The bytes that belong to the control lane, once the phase is HANDOVER and everything is answered."""
        data, self._buffer = self._buffer, b""
        self.hold()
        self._let_go_of_owner()
        return data

    def _let_go_of_owner(self) -> None:
        """Break the reference cycle with the owner of the socket, for the collector looks seldom."""
        self._on_ready = _tell_nobody
        self._client = _nobody

    def resume(self) -> None:
        """There is room for responses again, or a new turn has begun: go on with what was left unread."""
        self.deferred = False
        if self._buffer and self.phase in {_IDLE, _HEAD}:
            data, self._buffer = self._buffer, b""
            self.receive_heads(data)

    def defer(self) -> None:
        """There is room for responses again: what was left unread is for the next turn."""
        if self._buffer and self.phase in {_IDLE, _HEAD}:
            self._move(_LEFT_UNREAD)
            self.deferred = True

    # --- heads -------------------------------------------------------------------------------------------------

    def receive_heads(self, data: bytes) -> None:
        """Bytes that begin with a head came. Serve every complete request; what is left is kept for those that follow.

        The usual request, whole and with a head that is known, is served right here: it has to be fast.
        """
        lane, position, size, begun = self._lane, 0, len(data), False
        recall = lane.recall
        if self._known_since != lane.heads.forgotten:  # the keys have changed
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
                self._buffer = b""  # what the service itself would leave must not cost the client its connection
            begun = True
            head = self._known_head
            if head is not None and data.startswith(self._known, position):
                end = position + len(self._known)
            else:
                end = data.find(_END_OF_HEAD, self._scanned or position) + 4
                if end < 4 or end - position > MAX_HEAD_BYTES:
                    self._keep_partial_head(data, position)
                    return
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
            if self.phase is not _IDLE:  # asked first, for nearly always it is
                self._move(_REQUEST_READ)
            result = head.handle(head, data[end:stop])
            if isinstance(result, Pending):
                self._wait(head, result)
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
        """A head that is new (None), or whose body is not all here. Returns what comes after the request."""
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
        # A bare LF never ends a line here. Waiting for the end of such a head would only end in a timeout.
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
        """A body that is chunked, refused or not yet complete. Returns what comes after it, if it is already here."""
        refusal = head.refusal
        if refusal is not None and (
            refusal.close or head.chunked or head.expect_continue or head.content_length > _MAX_SKIPPED
        ):
            self._refuse(refusal, head)
            return b""
        assert head.route is not None  # noqa: S101 - the caller has seen it
        lane = self._lane
        # A client whose key is in the body may be anyone until the body is read.
        budget = lane.body_budget.keyless if head.keyless else lane.body_budget
        if head.expect_continue and not data:
            self._push(CONTINUE)
        lane.inflight += 1
        self._body = IncomingBody(head, head.route.max_body_bytes, budget)
        self._move(_BODY_BEGUN)
        return self._receive_body(data)

    def _receive_body(self, data: bytes) -> bytes:
        """Take bytes of the body, and answer the request once it is whole. Returns what comes after it."""
        incoming = self._body
        assert incoming is not None  # noqa: S101 - the phase says so
        head = incoming.head
        try:
            rest = incoming.feed(data)
        except BodyRefused as refused:
            self._refuse(refused.response, head)
            return b""
        if not incoming.done:
            return b""
        body = bytes(incoming.gathered)
        self._abandon_request()
        self._move(_REQUEST_READ)
        result = head.handle(head, body) if head.refusal is None else head.refusal
        if isinstance(result, Pending):
            self._wait(head, result)
        else:
            self._answer(head, result)
        return b"" if self.phase is _CLOSING else rest

    def _abandon_request(self) -> None:
        """Forget the request whose body is coming, and give back what it held."""
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
        pending.began = lane.clock()
        pending.head = head
        pending.wait(self._fill)
        if not head.keep_alive:
            self._move(_LAST_ANSWER)

    def _fill(self, pending: Pending, response: Response) -> None:
        """A pending response is there: send what is ready, in the order of the requests."""
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
        """The response's bytes. Decides whether the connection goes on after it."""
        lane, lines = self._lane, head.response_lines
        if last or response.close or not head.keep_alive or lane.draining:
            lines = lines.removesuffix(KEEP_ALIVE) + b"\r\nconnection: close"
            self._move(_LAST_ANSWER)
            if self.phase is _CLOSING:
                self._abandon_request()
                self._buffer = b""
                self.deferred = False
        request_id = head.request_id or lane.request_id()
        if not response.usual:
            traced = response.traced
            if traced is not None:
                request_id = traced.request_id
            lane.refusals.tell(head.route_name, response, request_id, self._client)
        return response.render(lane.date, request_id, lines)

    def _refuse(self, response: Response, head: Head | None = None) -> None:
        """Answer a request whose end cannot be found, or is not worth waiting for, and end the connection."""
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
