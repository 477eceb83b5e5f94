"""A chunk as the bytes of a record, and what is said of bytes that are none."""

from __future__ import annotations

import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.base.errors import LogDamaged
from hermes.events.decode import EventDecoder
from hermes.events.engine import journal_record
from hermes.events.engine.journal_record import decode_chunk, decode_head, encode_chunk, fits_record
from hermes.events.event import Chunk, Event
from hermes.testing import awkward_events, event_strategy, make_chunk, make_events

RECORD = encode_chunk(make_chunk(make_events(3)), 7)


def plain(event: Event) -> tuple[str, str, str, int, bytes]:
    return event.id, event.user_id, event.type, event.timestamp, bytes(event.payload)


@given(
    st.lists(event_strategy(), min_size=1, max_size=5),
    st.floats(0, 2**40),
    st.booleans(),
    st.integers(0, 2**63),
    st.integers(0, 2**63),
)
def test_a_chunk_comes_back_byte_for_byte(
    events: list[Event], received_at: float, derived: bool, first: int, index: int
) -> None:
    chunk = Chunk(events, received_at, 100, derived=derived)
    data = encode_chunk(chunk, first)
    again, head = decode_chunk(data, index)
    assert [plain(event) for event in again.events] == [plain(event) for event in events]
    assert (again.received_at, again.derived, again.index, again.size) == (received_at, derived, index, len(data))
    assert (again.waiting, again.receipt) == ([], None)
    assert head == decode_head(data, index)
    assert (head.first, head.count, head.received_at, head.derived) == (first, len(events), received_at, derived)


def test_whatever_the_edge_lets_in_comes_back_byte_for_byte() -> None:
    bodies = [
        b'{"id":%b,"user_id":%b,"type":"x","timestamp":%d,"payload":%b}'
        % (msgspec.json.encode(event.id), msgspec.json.encode(event.user_id), event.timestamp, event.payload)
        for event in awkward_events()
    ]
    decoded = EventDecoder(("*",)).decode_json(b"[" + b" , ".join(bodies) + b"]")
    assert len(decoded.events) == len(bodies)
    again, _ = decode_chunk(encode_chunk(Chunk(decoded.events, 0.0, 1), 0), 0)
    assert [plain(event) for event in again.events] == [plain(event) for event in decoded.events]


@given(st.lists(event_strategy(), min_size=1, max_size=9), st.integers(1, 9 * 2**13))
def test_what_is_said_to_fit_into_a_record_does(events: list[Event], most: int) -> None:
    size = sum(len(event.payload) for event in events)  # no request has fewer bytes
    record = len(encode_chunk(Chunk(events, 0.0, size), 0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_record, "MAX_RECORD_BYTES", most)
        patch.setattr(journal_record, "_MEASURED_AT_ONCE", 2)
        if fits_record(events, size):
            assert record <= most
        else:
            assert record > most - len(events)  # the measure counts a byte more where it begins anew


@given(st.binary(max_size=60))
def test_bytes_that_are_no_record_are_damage_and_nothing_else(data: bytes) -> None:
    with pytest.raises(LogDamaged, match="record 12 of the event journal"):
        decode_chunk(data, 12)


@given(st.data())
def test_a_record_that_was_changed_is_damage_or_another_record(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(RECORD) - 1))
    changed = bytearray(RECORD)
    changed[place] ^= data.draw(st.integers(1, 255))
    try:
        chunk, head = decode_chunk(bytes(changed), 0)
    except LogDamaged:
        return
    assert len(chunk.events) == head.count == 3


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "is no record"),
        (RECORD[:21], "is no record"),
        (RECORD[:-1], "cannot be read"),
        (RECORD + b"[]", "cannot be read"),
        (bytes([2]) + RECORD[1:], "has format 2, and this Hermes reads 1"),
        (struct.pack(">BBIQd", 1, 0, 4, 7, 0.0) + RECORD[22:], "has 3 events instead of 4"),
        (RECORD[:22] + b'[{"id":""}]', "cannot be read"),
    ],
)
def test_the_message_names_the_record_and_what_to_do(data: bytes, what: str) -> None:
    with pytest.raises(LogDamaged, match=rf"^record 5 of the event journal {what}.*see `hermes log inspect`$"):
        decode_chunk(data, 5)
