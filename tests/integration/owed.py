"""What clients of a test have sent, what the service owes them for it, and whether that is in the stores.

An answer binds the service: 202 to a request whose events were to be durable, that each of them is stored once, as it
was sent; 503 to a request that was never left unanswered, that none of them ever is. A request without an answer may
have gone either way. Invariant: `check` compares whole stores with everything that was ever sent, so nothing that was
lost, doubled, changed or invented escapes it. Used by the tests of durability.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

TYPES = ("trip_started", "song_played", "ad_clicked", "location_update")
TEXTS = (
    "plain",
    "Zoë 日本語 😀",
    "\\N \\. \t\n\r\b",
    "'); DROP TABLE events; --",
    '"quoted"',
    "\u2028\u0001\u007f",
    "%s {} $1",
)
NUMBERS = ("0", "-1", "1.5", "1e10", "1E-7", "9007199254740993", "123456789012345678901234567890")
POISON = '{"n":1e200000}'
"""JSON, but no number that jsonb takes."""


@dataclass(frozen=True)
class Sent:
    """An event as it was sent; ``payload`` is its text."""

    id: str
    user_id: str
    type: str
    timestamp: int
    payload: str

    @property
    def text(self) -> str:
        """Its JSON, with the payload's text as it is."""
        named = {"id": self.id, "user_id": self.user_id, "type": self.type, "timestamp": self.timestamp}
        return f'{json.dumps(named)[:-1]}, "payload": {self.payload}}}'


@dataclass
class Request:
    """Events that are sent together, once or again and again. ``ack`` is the Hermes-Ack that is asked for, if any."""

    events: list[Sent]
    ack: str | None = None
    owed: bool = False
    open: bool = False
    """It went without an answer once, or its answer promised nothing: its events may be stored or not."""
    delivered: bool = False

    @property
    def body(self) -> bytes:
        """Lines of JSON."""
        return "\n".join(event.text for event in self.events).encode()

    def note(self, status: int, answer: Any) -> None:
        """It was answered."""
        if status == 202:
            assert answer == {"accepted": len(self.events)}
            self.owed |= self.ack != "accepted"
            self.open |= self.ack == "accepted"
            self.delivered |= self.ack == "delivered"
        elif status in {422, 504}:
            assert answer["accepted"] == len(self.events)
            assert answer["durable"] is True
            self.owed = True
        else:
            assert status == 503, (status, answer)
            assert "Nothing of this request was taken" in answer["detail"]

    def note_silence(self) -> None:
        """It was sent, at least in part, and not answered."""
        self.open = True


@dataclass
class Owed:
    """All requests of a test, made with one source of randomness."""

    random: Random
    poisoned: float = 0.0
    """The share of events that Postgres will never take; for SQLite they are like any other."""
    requests: list[Request] = field(default_factory=list)

    def request(self, count: int, *, ack: str | None = None, filling: int = 0) -> Request:
        """A new request of ``count`` events, each ``filling`` bytes larger than it has to be."""
        made = Request([self._make(f"{len(self.requests)}-{n}", filling) for n in range(count)], ack)
        self.requests.append(made)
        return made

    @property
    def ids(self) -> set[str]:
        """The ids of all events that have to be stored."""
        return {event.id for request in self.requests if request.owed for event in request.events}

    @property
    def delivered(self) -> set[str]:
        """The ids of all events whose client was told that the sinks have them."""
        return {event.id for request in self.requests if request.delivered for event in request.events}

    def check(
        self, stored: Iterable[Sent], *, buried: Iterable[Sent] = (), parsed: bool = False, partly: bool = False
    ) -> None:
        """Compare with all that a store holds, and with its dead letters.

        ``parsed``: the store keeps what a payload means, as jsonb does, and not its text. ``partly``: it need not have
        all.
        """
        sent = {event.id: event for request in self.requests for event in request.events}
        impossible = {
            event.id for request in self.requests if not request.owed and not request.open for event in request.events
        }
        stored, buried = list(stored), list(buried)
        found = Counter(event.id for event in (*stored, *buried))
        assert not (doubled := [name for name, count in found.items() if count > 1]), f"stored twice: {doubled[:9]}"
        assert not (invented := found.keys() - sent.keys()), f"never sent: {sorted(invented)[:9]}"
        assert not (refused := found.keys() & impossible), f"{len(refused)} refused, and stored: {sorted(refused)[:9]}"
        lost = set() if partly else self.ids - found.keys()
        assert not lost, f"{len(lost)} lost: {sorted(lost)[:9]}"
        for event in stored:
            told = sent[event.id]
            if parsed:
                assert json.loads(event.payload) == json.loads(told.payload), event.id
                told = replace(told, payload=event.payload)
            assert event == told
        for event in buried:
            assert event == sent[event.id]
            assert event.payload == POISON

    def _make(self, name: str, filling: int) -> Sent:
        random = self.random
        text = json.dumps(random.choice(TEXTS), ensure_ascii=random.random() < 0.5)
        number = random.choice(NUMBERS)
        payload = random.choice(
            (
                f'{{"n":{number}}}',
                f'{{ "text" :\t{text}, "list": [{number}, null, true] }}',
                "{}",
                f'{{"":{{"a":{text}}}}}',
            )
        )
        if random.random() < self.poisoned:
            payload = POISON
        elif filling:
            payload = f'{{"filling":"{random.randbytes(filling // 2).hex()}"}}'
        return Sent(name, f"user-{random.randrange(100)}", random.choice(TYPES), random.randrange(2**32), payload)
