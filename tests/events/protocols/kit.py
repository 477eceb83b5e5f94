"""What the tests of every protocol share: the rules of an event, and bodies that are broken at random."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import pytest
from hypothesis import strategies as st

from hermes.events.event import MAX_TIMESTAMP, Event
from hermes.events.ingest.format import DataProtocol
from hermes.events.ingest.request import EventRequest
from hermes.net.http.head import Head

_PIECES = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\0", b"\xff", rb"\u0000", rb"\ud800", b"1e9", b"-"]


def request_to(protocol: DataProtocol, path: str, headers: Mapping[str, str] | None = None) -> EventRequest:
    """A request to a path, as the decoders see it."""
    head = Head("POST", path, headers or {})
    return EventRequest(head, protocol.choose(head))


def assert_keeps_the_rules(event: Event) -> None:
    """The event is one that `hermes.events.decode.EventDecoder` could have given, with any type."""
    assert 1 <= len(event.id) <= 256
    assert 1 <= len(event.user_id) <= 256
    assert re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", event.type)
    assert type(event.timestamp) is int
    assert 0 <= event.timestamp <= MAX_TIMESTAMP
    payload = json.loads(bytes(event.payload).decode(), parse_constant=pytest.fail)
    assert isinstance(payload, dict)
    assert bytes(event.payload) == bytes(event.payload).strip()
    for text in (event.id, event.user_id, _flatten(payload)):
        assert "\0" not in text
        text.encode()  # no lone surrogate


def _flatten(value: object) -> str:
    """Every string in a JSON value, keys too."""
    if isinstance(value, dict):
        return "".join(key + _flatten(each) for key, each in value.items())
    if isinstance(value, list):
        return "".join(map(_flatten, value))
    return value if isinstance(value, str) else ""


@st.composite
def mutations(draw: st.DrawFn, body: bytes) -> bytes:
    """The body with one to four pieces of it changed."""
    changed = bytearray(body)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(changed)))
        changed[at : at + draw(st.integers(0, 3))] = draw(st.sampled_from(_PIECES) | st.binary(max_size=3))
    return bytes(changed)
