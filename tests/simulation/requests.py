"""Requests as the simulated clients make them: events with awkward payloads, in every body and coding that is taken.

Invariant: an event is made once and sent as the same bytes whenever it is sent again. Pure: the chance comes from the
caller. Used by the clients; the oracle keeps what was made.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

TYPES = ("trip_started", "song_played", "ad_clicked", "location_update")

_PAYLOADS = (
    "{}",
    "{ }",
    '{"n":1}',
    '{"n": 1.0, "n2":1e2 ,"big":12345678901234567890}',
    '{"words":"é 😀 \\ud83d\\ude00 \\u00e9 \\\\u0000 \\/"}',
    '{\t"nested":[[[{}]],{"a":{"b":[null,true,false]}}]}',
    '{"same":1,"same":2}',
    '{"long":"%s"}' % ("x" * 400),
)


@dataclass(frozen=True)
class Sent:
    """An event that a client has made, as every sink must store it."""

    id: str
    user_id: str
    type: str
    timestamp: int
    payload: bytes

    def text(self, chance: Random) -> str:
        """Its JSON; the payload is always the same bytes, all else may be spelt differently."""
        fields = [
            f'"id":{json.dumps(self.id)}',
            f'"user_id":{json.dumps(self.user_id, ensure_ascii=chance.random() < 0.5)}',
            f'"type":"{self.type}"',
            f'"timestamp":{self.timestamp}',
            f'"payload":{self.payload.decode()}',
        ]
        if chance.random() < 0.2:
            fields.append('"unknown":[1,{}]')
        chance.shuffle(fields)
        return "{" + chance.choice((",", " , ")).join(fields) + "}"


@dataclass
class Request:
    """One request: ``data`` is all its bytes, ``size`` the number of those of its plain body.

    ``invalid`` are the indexes of what is no event in its body.
    """

    name: str
    ack: str | None
    events: Sequence[Sent]
    invalid: Sequence[int]
    data: bytes
    size: int
    attempts: int = 0


def make_event(chance: Random, name: str) -> Sent:
    """An event with the id ``name``."""
    payload = chance.choice(_PAYLOADS).encode()
    return Sent(name, f"user-{chance.randint(1, 9)}é", chance.choice(TYPES), chance.randrange(2**33), payload)


def make_request(chance: Random, name: str, events: Sequence[Sent], ack: str | None, *, plain: bool = False) -> Request:
    """A request of these events, with some invalid ones between them. ``plain``: without a name, gzip or chunks."""
    texts: list[tuple[str, bool]] = [(event.text(chance), True) for event in events]
    if chance.random() < 0.1:
        texts.insert(chance.randint(0, len(texts)), ('{"id":"","user_id":"x"}', False))
    single = len(texts) == 1 and chance.random() < 0.7
    if single:
        body, media_type = texts[0][0], "application/json"
    elif chance.random() < 0.5:
        body, media_type = "[" + ",".join(text for text, _ in texts) + "]", "application/json"
    else:
        body, media_type = "\n".join(text for text, _ in texts) + "\n", "application/x-ndjson"
    lines = ["Host: hermes", f"Content-Type: {media_type}"]
    if ack is not None:
        lines.append(f"Hermes-Ack: {ack}")
    if not plain:
        lines.append(f"X-Request-Id: {name}")
    invalid = [index for index, (_, valid) in enumerate(texts) if not valid]
    data = _frame(lines, body.encode()) if plain else _encode(chance, lines, body)
    return Request(name, ack, events, invalid, data, len(body.encode()))


def _encode(chance: Random, lines: list[str], text: str) -> bytes:
    body = text.encode()
    if chance.random() < 0.2:
        lines.append("Content-Encoding: gzip")
        body = gzip.compress(body, mtime=0)
    if chance.random() < 0.8:
        return _frame(lines, body)
    cut = chance.randint(1, len(body) - 1)
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:cut], body[cut:], b""))
    return _head(lines, "Transfer-Encoding: chunked") + chunks


def _frame(lines: list[str], body: bytes) -> bytes:
    return _head(lines, f"Content-Length: {len(body)}") + body


def _head(lines: list[str], framing: str) -> bytes:
    return "\r\n".join(["POST /events HTTP/1.1", *lines, framing, "", ""]).encode()
