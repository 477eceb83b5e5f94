"""The sans-IO lane under test: an intake that remembers, and a wire that feeds a connection and reads its responses."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from hermes.events.ack import Ack, Outcome, Tell
from hermes.events.event import Event
from hermes.events.protocols.routes import make_routes
from hermes.net.http.connection import Connection
from hermes.net.http.head import Heads
from hermes.net.http.keys import Keys
from hermes.net.http.lane import BodyBudget, Lane
from hermes.net.http.work import Workshop
from hermes.observe.traced_request import TracedRequest
from tests.net.http.answer import Answer as Answer

EVENT_TYPES = ("trip_started", "song_played", "ad_clicked", "location_update")


@dataclass
class FakeIntake:
    """Takes up to ``room`` events; ``blocking``: those without room wait until `make_room`."""

    room: int = 10**9
    blocking: bool = False
    capacity: int = 100_000
    taken: list[Event] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    marks: list[TracedRequest | None] = field(default_factory=list)
    """The traced request of each event that `offer` took."""
    waiting: list[tuple[list[Event], Tell]] = field(default_factory=list)
    ack: Ack = Ack.ACCEPTED
    asked: list[Ack] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [event.id for event in self.taken]

    def offer(self, events: list[Event], size: int, traced: TracedRequest | None = None) -> bool:
        if self.waiting or len(events) > self.room:
            return False
        self.room -= len(events)
        self.taken += events
        self.marks += [traced] * len(events)
        self.sizes.append(size)
        return True

    def find_refusal(self, size: int) -> Outcome | None:
        return None if self.blocking or self.room > 0 else Outcome.NO_ROOM

    def submit(
        self, events: list[Event], size: int, ack: Ack, tell: Tell, traced: TracedRequest | None = None
    ) -> Callable[[], None]:
        self.asked.append(ack)
        if not self.blocking or (len(events) <= self.room and not self.waiting):
            tell(Outcome.TAKEN if self.offer(events, size, traced) else Outcome.NO_ROOM, None)
            return lambda: None
        entry = (events, tell)
        self.waiting.append(entry)

        def call_off() -> None:
            if entry in self.waiting:
                self.waiting.remove(entry)
                tell(Outcome.NO_ROOM, None)

        return call_off

    def make_room(self, count: int) -> None:
        """Room for more events; those who wait take it in their order."""
        self.room += count
        while self.waiting and len(self.waiting[0][0]) <= self.room:
            events, tell = self.waiting.pop(0)
            self.room -= len(events)
            self.taken += events
            tell(Outcome.TAKEN, None)

    def retry_after(self) -> int:
        return 7


def read_answers(data: bytes) -> list[Answer]:
    """The responses in ``data``, which must hold nothing else."""
    answers = []
    while data:
        head, mark, data = data.partition(b"\r\n\r\n")
        assert mark, f"a torn response: {head!r}"
        first, *lines = head.decode("latin-1").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        assert len(headers) == len(lines), f"a header is repeated: {head!r}"
        length = int(headers.get("content-length", "0"))
        assert length <= len(data), f"a torn response: {head!r}"
        answers.append(Answer(int(status), headers, data[:length]))
        data = data[length:]
    return answers


class Wire:
    """A connection and what a client sees of it. ``max_body_bytes``, ``budget`` and so on are the lane's settings."""

    def __init__(
        self,
        intake: FakeIntake | None = None,
        *,
        max_body_bytes: int = 10_000,
        budget: int = 1_000_000,
        keys: Sequence[str] = (),
        origins: Sequence[str] = (),
        event_types: Sequence[str] = EVENT_TYPES,
        lane: Lane | None = None,
    ) -> None:
        self.intake = intake or FakeIntake()
        self.rejected: Counter[str] = Counter()
        self.seconds = 0.0
        self.observed: list[tuple[str, int, float, int]] = []
        self.budget = BodyBudget(budget, 1000)
        self.workshop = Workshop(self.budget)
        self.routes = make_routes(
            self.intake,
            self.rejected,
            workshop=self.workshop,
            event_types=event_types,
            max_body_bytes=max_body_bytes,
            keys=Keys(keys),
            origins=origins,
        )
        heads = Heads({("POST", route.name): route for route in self.routes})
        self.lane = lane or Lane(heads, self.budget, self._observe, lambda: self.seconds)
        self.lane.begin_turn()
        self.connection = Connection(self.lane, self._ready)
        self.calls = 0

    def _observe(self, *what: Any) -> None:
        self.observed.append(what)

    def _ready(self) -> None:
        self.calls += 1

    @property
    def phase(self) -> Any:
        """The connection's phase, of no type that a checker would believe to stay as it is."""
        return self.connection.phase

    def feed(self, *pieces: bytes) -> list[Answer]:
        """Feed the pieces one after the other, sending what is ready after each; the responses to them."""
        return read_answers(self.feed_raw(pieces))

    def feed_raw(self, pieces: Iterable[bytes]) -> bytes:
        sent = b""
        for piece in pieces:
            self.connection.receive(piece)
            while self.workshop.turn():
                pass
            sent += self.take()
        return sent

    def take(self) -> bytes:
        """What the owner of the socket sends: everything, and what could only be answered after that."""
        sent = b""
        while self.connection.out:
            sent += b"".join(self.connection.out)
            self.connection.out.clear()
            self.connection.unsent = 0
            self.connection.resume()
        return sent

    def answers(self) -> list[Answer]:
        """The responses that have become ready since."""
        return read_answers(self.take())

    def used(self) -> int:
        """Bytes of the body budget in use."""
        return self.budget.used


def event(name: str = "1", **changes: Any) -> bytes:
    """The JSON of a valid event with the id ``name``."""
    fields = {"id": name, "user_id": "me", "type": "song_played", "timestamp": 1_700_000_000, "payload": {"n": 1}}
    return json.dumps(fields | changes).encode()


def post(body: bytes, *lines: bytes, path: bytes = b"/events") -> bytes:
    """A whole ``POST /events``, or to another path, with its length."""
    return head(b"Content-Length: %d" % len(body), *lines, first=b"POST %b HTTP/1.1" % path) + body


def head(*lines: bytes, first: bytes = b"POST /events HTTP/1.1") -> bytes:
    """A request's head with a Host."""
    return b"\r\n".join([first, b"Host: test", *lines]) + b"\r\n\r\n"


def chunked(*chunks: bytes, trailers: bytes = b"") -> bytes:
    """A body in these chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"


def post_chunked(*chunks: bytes, lines: Sequence[bytes] = ()) -> bytes:
    """A whole chunked ``POST /events``."""
    return head(b"Transfer-Encoding: chunked", *lines) + chunked(*chunks)
