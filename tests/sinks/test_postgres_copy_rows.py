"""Rows of COPY's text format: whatever an event holds, the server reads just that."""

from __future__ import annotations

import datetime as dt

from hermes_sinks.postgres import copy_rows
from hermes_sinks.postgres.copy_rows import arrival_texts, encode_rows, key_rows, split_rows
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import Raw

from hermes import Event
from hermes.events.event import MAX_TIMESTAMP
from hermes.testing import awkward_events, big_event, event_strategy, make_batch, make_chunk, make_event, make_events

ARRIVAL = "2023-11-14 22:13:21.250+00"
_ESCAPES = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}


def read_copy_text(block: bytes) -> list[list[bytes | None]]:
    """What COPY reads from a block, after the documentation: split at raw separators, then take the escapes back."""
    rows, row, field, raw = [], [], b"", b""
    at = 0
    while at < len(block):
        byte = block[at : at + 1]
        at += 1
        if byte in (b"\x01", b"\n"):
            row.append(None if raw == rb"\N" else field)
            field = raw = b""
            if byte == b"\n":
                rows.append(row)
                row = []
        elif byte == b"\\":
            following = block[at : at + 1]
            if following in b"01234567" and following:
                digits = block[at : at + 3]
                field, raw, at = field + bytes([int(digits, 8)]), raw + byte + digits, at + 3
            else:
                assert following not in (b"", b"\n", b"\x01", b"x", b".")
                field, raw, at = field + _ESCAPES.get(following, following), raw + byte + following, at + 1
        else:
            assert byte != b"\r"
            field, raw = field + byte, raw + byte
    assert not row
    assert not field
    return rows


def expected(event: Event) -> list[bytes | None]:
    moment = dt.datetime(1970, 1, 1) + dt.timedelta(seconds=event.timestamp)  # noqa: DTZ001  the row says +00 itself
    texts = (event.id, event.user_id, event.type, f"{moment:%Y-%m-%d %H:%M:%S}+00".rjust(22, "0"), ARRIVAL)
    return [*(text.encode(errors="surrogatepass") for text in texts), bytes(event.payload)]


control_text = st.text(st.sampled_from("\0\x01\x02\t\n\r\\.N0x1é😀\ud800"), min_size=1, max_size=8)
hostile_events = st.builds(
    Event,
    control_text,
    control_text,
    control_text,
    st.integers(0, MAX_TIMESTAMP),
    st.binary(max_size=8).map(Raw) | st.text("\x01\t\r\n\\{}.N", max_size=8).map(lambda text: Raw(text.encode())),
)


@given(st.lists(event_strategy() | hostile_events, max_size=6))
@example(awkward_events())
@example([big_event(5000)])
@example([make_event("\\."), make_event("\\N"), make_event("\x01")])
@settings(max_examples=100)
def test_the_server_reads_what_the_events_hold(events: list[Event]) -> None:
    block = encode_rows(events, [ARRIVAL] * len(events))
    assert read_copy_text(block) == [expected(event) for event in events]
    assert len(split_rows(block)) == len(events)
    assert b"".join(split_rows(block)) == block
    assert read_copy_text(key_rows(split_rows(block))) == [[row[0], row[3]] for row in map(expected, events)]


@given(st.lists(event_strategy() | hostile_events, min_size=1, max_size=6))
@settings(max_examples=100)
def test_both_ways_of_encoding_give_rows_that_read_alike(events: list[Event]) -> None:
    arrivals = [ARRIVAL] * len(events)
    at_once = copy_rows._encode_at_once(events, arrivals)
    by_field = copy_rows._encode_by_field(events, arrivals)
    assert not at_once or read_copy_text(at_once) == read_copy_text(by_field)


def test_usual_events_take_the_fast_way_and_so_do_payloads_with_line_breaks_tabs_and_escapes() -> None:
    events = make_events(100, payload=b'{\r\n\t"a": "\\n\\\\"\n}')
    assert copy_rows._encode_at_once(events, [ARRIVAL] * 100)


def test_a_control_character_in_one_id_takes_the_exact_way() -> None:
    for text in ("\x01", "\0", "\ud800"):
        assert not copy_rows._encode_at_once([make_event(), make_event(text)], [ARRIVAL] * 2)


def test_separators_that_make_up_for_each_other_are_noticed() -> None:
    # A payload without its row's end and an id with one too many would even out in a careless count.
    events = [Event("a\x01b", "u", "t", 1, Raw(b"{}")), Event("c", "u", "t", 1, Raw(b"{\x01}"))]
    assert read_copy_text(encode_rows(events, [ARRIVAL] * 2)) == [expected(event) for event in events]


def test_arrival_is_each_chunks_own_to_the_millisecond() -> None:
    batch = make_batch(0)
    batch.chunks = [
        make_chunk(2, received_at=1_700_000_001.2509),
        make_chunk(1, received_at=1_700_000_001.2501),
        make_chunk(1, received_at=0.0),
    ]
    assert arrival_texts(batch) == [ARRIVAL] * 3 + ["1970-01-01 00:00:00.000+00"]


def test_the_cache_of_seconds_is_bounded() -> None:
    many = copy_rows._MAX_CACHED_SECONDS + 1000
    events = [make_event(timestamp=second * 86_400) for second in range(many)]
    encode_rows(events, [ARRIVAL] * many)
    assert len(copy_rows._seconds) <= copy_rows._MAX_CACHED_SECONDS
