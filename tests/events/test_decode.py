"""The decoder of request bodies: what it takes, what it refuses and in which words, and that it never raises else."""

from __future__ import annotations

import json
import re
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from hermes.base.json.rules import MAX_NESTING, BadBody
from hermes.events.decode import Decoded, EventDecoder
from hermes.events.event import Event
from hermes.net.http.rejection import MAX_REJECTIONS
from hermes.testing import event_strategy
from tests.growth import assert_linear

DECODER = EventDecoder(("trip_started", "song_played", "ad_clicked", "location_update"))
ANY_TYPE = EventDecoder(("*",))


def text(**changes: Any) -> bytes:
    """The JSON of a valid event with these fields changed; a value of None leaves the field out; bytes are raw JSON."""
    fields: dict[str, Any] = {"id": "1", "user_id": "me", "type": "song_played", "timestamp": 1_700_000_000}
    items = [(key, value) for key, value in (fields | changes).items() if value is not None]
    return b"{%b}" % b",".join(
        b'"%b":%b' % (key.encode(), value if isinstance(value, bytes) else json.dumps(value).encode())
        for key, value in items
    )


def nested(depth: int) -> bytes:
    """A payload that is this deep, the payload's own braces included."""
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


def decode(body: bytes) -> Decoded:
    """As the route does it: the short way first."""
    if body[:1] == b"{":
        event = DECODER.decode_one(body)
        if event is not None:
            return Decoded([event])
    return DECODER.decode_json(body)


def assert_same(events: list[Event], others: list[Event]) -> None:
    """Raw values are equal only to themselves, so they are compared as bytes."""
    assert [(*astuple(event)[:4], bytes(event.payload)) for event in events] == [
        (*astuple(event)[:4], bytes(event.payload)) for event in others
    ]


def rejection(body: bytes) -> str:
    """The one reason that a body of one event is refused with."""
    decoded = decode(body)
    assert decoded.events == []
    (only,) = decoded.rejected
    assert only.index == 0
    return only.error


# --- what is taken ---------------------------------------------------------------------------------------------------


def test_an_event_is_read_as_it_was_sent() -> None:
    (event,) = decode(text(payload=b'{ "a": [1,  2.50] }')).events
    assert (event.id, event.user_id, event.type, event.timestamp) == ("1", "me", "song_played", 1_700_000_000)
    assert bytes(event.payload) == b'{ "a": [1,  2.50] }'


def test_a_missing_payload_is_an_empty_object() -> None:
    assert bytes(decode(text()).events[0].payload) == b"{}"


def test_unknown_fields_are_ignored() -> None:
    assert len(decode(text(more={"a": [1]}, other=None)).events) == 1


@pytest.mark.parametrize("around", [b"%b", b" \r\n\t%b\n", b"[%b]", b" [ %b ] "])
def test_whitespace_and_an_array_of_one_make_no_difference(around: bytes) -> None:
    assert_same(decode(around % text()).events, decode(text()).events)


def test_lines_may_end_in_cr_lf_be_empty_and_lack_the_last_break() -> None:
    decoded = DECODER.decode_lines(b"\r\n" + text(id="a") + b"\r\n \t\r\n\n" + text(id="b"))
    assert [event.id for event in decoded.events] == ["a", "b"]
    assert not decoded.rejected


@pytest.mark.parametrize("body", [b"", b"\n", b"\r\n \n", b"  "])
def test_lines_without_an_event_are_no_event(body: bytes) -> None:
    assert DECODER.decode_lines(body) == Decoded([], [])


@given(st.lists(event_strategy(), min_size=1, max_size=5))
def test_every_valid_event_is_read_alike_alone_in_an_array_and_on_a_line(events: list[Any]) -> None:
    bodies = [
        text(id=e.id, user_id=e.user_id, type=e.type, timestamp=e.timestamp, payload=bytes(e.payload)) for e in events
    ]
    # A payload may hold line breaks, which are whitespace in JSON and the end of an event in NDJSON.
    lines = b"\n".join(body.replace(b"\n", b" ").replace(b"\r", b" ") for body in bodies)
    listed = ANY_TYPE.decode_json(b"[" + b",".join(bodies) + b"]")
    assert not listed.rejected
    assert_same(listed.events, events)
    assert [event.id for event in ANY_TYPE.decode_lines(lines).events] == [event.id for event in events]
    assert_same([ANY_TYPE.decode_one(body) or ANY_TYPE.decode_json(body).events[0] for body in bodies], events)


# --- wrong fields ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"id": None}, "missing required field `id`"),
        ({"user_id": None}, "missing required field `user_id`"),
        ({"type": None}, "missing required field `type`"),
        ({"timestamp": None}, "missing required field `timestamp`"),
        ({"id": ""}, "`id` is empty: expected text, at least 1 character"),
        ({"id": "x" * 257}, "`id` is too long: expected text, at most 256 characters"),
        ({"id": 7}, "`id` is a number: expected text"),
        ({"id": b"null"}, "`id` is null: expected text"),
        ({"user_id": ["me"]}, "`user_id` is an array: expected text"),
        ({"user_id": "é" * 257}, "`user_id` is too long: expected text, at most 256 characters"),
        (
            {"type": "nonsense"},
            "not in EVENT_TYPES: add it there, or set EVENT_TYPES=* to take any (it has trip_started, song_played, ad_",
        ),
        ({"type": "x" * 10_000}, "x…' - at `$.type`: not in EVENT_TYPES: add it there"),
        ({"type": True}, "`type` is a truth value: expected 1 to 64 of A-Z"),
        ({"timestamp": -1}, "`timestamp` is too small: expected whole Unix seconds"),
        ({"timestamp": 253_402_300_800}, "`timestamp` is too large: expected whole Unix seconds"),
        (
            {"timestamp": "1700000000"},
            "`timestamp` is text: expected whole Unix seconds; or set EVENT_TIMES=any",
        ),
        ({"timestamp": 1_700_000_000_000}, "expected whole Unix seconds; or set EVENT_TIMES=any"),
        (
            {"timestamp": b"1700000000.5"},
            "`timestamp` is a number with a fraction: expected whole Unix seconds; or set EVENT_TIMES=",
        ),
        ({"timestamp": b"-1.0"}, "`timestamp` is a number with a fraction: expected whole Unix seconds"),
        ({"timestamp": b"253402300800.0"}, "`timestamp` is a number with a fraction: expected whole"),
        ({"timestamp": b"1e400"}, "`$.timestamp`"),
        ({"timestamp": b"true"}, "`timestamp` is a truth value: expected whole Unix seconds"),
        ({"timestamp": b"9" * 30}, "`timestamp` is too large"),
        ({"timestamp": b"-" + b"9" * 5000}, "timestamp`"),
        ({"payload": b"null"}, "`payload` is null: expected an object"),
        ({"payload": b"[]"}, "`payload` is an array: expected an object"),
        ({"payload": b'"{}"'}, "`payload` is text: expected an object"),
        ({"payload": b"1"}, "`payload` is a number: expected an object"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(changes: dict[str, Any], words: str) -> None:
    assert words in rejection(text(**changes))
    assert words in rejection(b"[%b]" % text(**changes))
    assert words in DECODER.decode_lines(text(**changes)).rejected[0].error


@pytest.mark.parametrize("number", [b"1700000000.0", b"17e8", b"1.7E9", b"0.0", b"253402300799.0"])
def test_an_integer_may_be_written_as_a_float(number: bytes) -> None:
    body = text(timestamp=number)
    for decoded in (decode(body), decode(b"[%b]" % body), DECODER.decode_lines(body)):
        assert [type(event.timestamp) for event in decoded.events] == [int]
        assert decoded.events[0].timestamp == float(number)


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        (b"1700000000", 1_700_000_000),
        (b"1700000000.999", 1_700_000_000),
        (b"1700000000999", 1_700_000_000),
        (b"1700000000999.9", 1_700_000_000),
        (b"253402300799", 253_402_300_799),
        (b"253402300799.9", 253_402_300_799),
        (b"253402300800", 253_402_300),
        (b"253402300799999", 253_402_300_799),
        (b'"2023-11-14T22:13:20.999Z"', 1_700_000_000),
        (b'"2023-11-14T23:13:20+01:00"', 1_700_000_000),
        (b"253402300800000", None),
        (b"1700000000000000", None),
        (b"-1", None),
        (b"-0.5", None),
        (b'"2023-11-14T22:13:20"', None),
        (b'"1969-12-31T23:59:59Z"', None),
        (b'"yesterday"', None),
        (b'"1700000000"', None),
        (b"null", None),
    ],
)
def test_times_of_any_form_are_read_where_that_is_set(time: bytes, seconds: int | None) -> None:
    decoder = EventDecoder(("*",), any_times=True)
    body = text(timestamp=time)
    for decoded in (decoder.decode_json(body), decoder.decode_json(b"[%b]" % body), decoder.decode_lines(body)):
        assert [event.timestamp for event in decoded.events] == ([] if seconds is None else [seconds])
        assert all(each.error.startswith("`timestamp` is ") for each in decoded.rejected)


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "é", "a\n", "a/b"])
def test_any_type_still_has_a_form(name: str) -> None:
    (only,) = ANY_TYPE.decode_json(text(type=name)).rejected
    assert "expected 1 to 64 of A-Z a-z 0-9 _ . : -" in only.error


def test_lengths_are_counted_in_characters() -> None:
    assert len(decode(text(id="😀" * 256, user_id="é" * 256)).events) == 1


@pytest.mark.parametrize("number", [b"9" * 5000, b"1e999999", b"-0", b"1E-400", b"0.1e+1"])
def test_huge_numbers_in_a_payload_stay_as_they_are(number: bytes) -> None:
    payload = b'{"n":%b}' % number
    assert bytes(decode(text(payload=payload)).events[0].payload) == payload


def test_valid_events_are_taken_beside_others_which_are_told_by_their_place() -> None:
    bodies = [text(id="a"), text(id=""), text(id="c"), b"7", text(id="e", payload=b"[]")]
    for decoded in (DECODER.decode_json(b"[%b]" % b",".join(bodies)), DECODER.decode_lines(b"\n".join(bodies))):
        assert [event.id for event in decoded.events] == ["a", "c"]
        assert [each.index for each in decoded.rejected] == [1, 3, 4]


# --- bytes that no JSON has ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"null", b"1", b'"text"', b"true", b"\0", b"{", b"[", b"[1", b"nonsense"])
def test_what_is_no_object_or_array_is_refused_as_a_whole(body: bytes) -> None:
    with pytest.raises(BadBody, match=r"expected a JSON object|malformed"):
        decode(body)


@pytest.mark.parametrize("body", [b"", b" ", b"\r\n\t "])
def test_an_empty_body_is_named(body: bytes) -> None:
    with pytest.raises(BadBody, match=r"^the body is empty$"):
        decode(body)


@pytest.mark.parametrize("between", [b"", b"\n", b" ", b","])
def test_several_events_in_a_json_body_are_told_how_to_be_sent(between: bytes) -> None:
    advice = r"; several events\? send them as application/x-ndjson, one a line \(curl: --data-binary\)$"
    with pytest.raises(BadBody, match=rf"JSON is malformed: trailing characters \(byte \d+\){advice}"):
        decode(text() + between + text())


def test_an_empty_array_holds_no_event() -> None:
    assert decode(b"[]") == Decoded([])


@pytest.mark.parametrize(
    "payload",
    rb"""
    {"a":01}  {"a":1.}  {"a":.5}  {"a":+1}  {"a":-}  {"a":1e}  {"a":0x1}  {"a":1_0}  {"a":NaN}  {"a":-Infinity}
    {"a":tru}  {a:1}  {'a':1}  {1:1}  {,}  {"a":1,}  {"a":[1,]}  {"a":[,]}  {"a".1}  {"a":1"b":1}  {"a":1}}  {"a":1}//
    {"a":[}  {"a":"\x41"}  {"a":"\u12"}  {"a":"\u12G4"}  {"a":{}
    """.split(),
)
def test_a_payload_that_is_no_json_is_refused_with_the_place(payload: bytes) -> None:
    assert_malformed(payload)


@pytest.mark.parametrize("payload", [b'{"a":"\t"}', b'{"a":"\x01"}', b'{"a":"\x1f"}', b'{"a":\x0c1}', b"{\xa0}"])
def test_control_characters_and_odd_spaces_are_refused_with_the_place(payload: bytes) -> None:
    assert_malformed(payload)


def assert_malformed(payload: bytes) -> None:
    with pytest.raises(BadBody, match=r"JSON is malformed: .* \(byte \d+\)"):
        decode(text(payload=payload, z=1))
    (only,) = DECODER.decode_lines(text(payload=payload, z=1)).rejected
    assert re.match(r"JSON is malformed: .* \(byte \d+\)", only.error)


@pytest.mark.parametrize("place", ["id", "user_id", "payload", "unknown"])
@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5\x80\x80\x80", b"\x80"])
def test_bytes_that_are_not_utf_8_are_refused_wherever_they_are(place: str, bad: bytes) -> None:
    value = b'{"a":"%b"}' % bad if place == "payload" else b'"%b"' % bad
    body = text(**{place: value})
    with pytest.raises(BadBody, match=r"(?i)utf-8"):
        decode(body)


@pytest.mark.parametrize("place", ["id", "user_id", "payload", "key", "unknown"])
@pytest.mark.parametrize("escape", [rb"\ud800", rb"\udc00", rb"\udc00\ud800", rb"\ud800\ud800", rb"\ud800x"])
def test_a_lone_surrogate_is_refused_wherever_it_is(place: str, escape: bytes) -> None:
    value = {"payload": b'{"a":"%b"}', "key": b'{"%b":1}'}.get(place, b'"%b"') % escape
    body = text(**{"payload" if place == "key" else place: value}, z="............")
    with pytest.raises(BadBody, match=r"JSON is malformed"):
        decode(body)


@pytest.mark.parametrize("place", ["id", "user_id", "payload", "key", "unknown"])
def test_an_escaped_nul_is_refused_wherever_it_is(place: str) -> None:
    value = {"payload": b'{"a":"x%b"}', "key": b'{"%b":1}'}.get(place, b'"%b"') % rb"\u0000"
    body = text(**{"payload" if place == "key" else place: value})
    assert "U+0000" in rejection(body)
    assert "U+0000" in rejection(b"[%b]" % body)
    assert "U+0000" in DECODER.decode_lines(body).rejected[0].error


@pytest.mark.parametrize(("letters", "is_nul"), [(rb"\\u0000", False), (rb"\\\u0000", True), (rb"\\\\u0000", False)])
def test_a_backslash_before_the_letters_u0000_is_no_nul(letters: bytes, is_nul: bool) -> None:
    decoded = decode(text(payload=b'{"a":"%b"}' % letters))
    assert bool(decoded.rejected) is is_nul
    assert bool(decoded.events) is not is_nul


@pytest.mark.parametrize("index", range(len(text(payload=b'{"a":"b"}')) + 1))
def test_a_nul_byte_is_refused_at_any_place(index: int) -> None:
    body = text(payload=b'{"a":"b"}')
    with pytest.raises(BadBody, match=r"malformed|expected a JSON object"):
        decode(body[:index] + b"\0" + body[index:])


@pytest.mark.parametrize("read", [DECODER.decode_json, DECODER.decode_lines])
@pytest.mark.parametrize("body", [text(), b"[]", b""])
def test_a_byte_order_mark_makes_no_difference(read: Any, body: bytes) -> None:
    told = []
    for sent in (body, b"\xef\xbb\xbf" + body):
        try:
            decoded = read(sent)
        except BadBody as error:
            told.append(str(error))
        else:
            told.append(repr([[event.id for event in decoded.events], decoded.rejected]))
    assert told[0] == told[1]


# --- broken at any byte ----------------------------------------------------------------------------------------------

WHOLE = text(payload=b'{"a":[1,{"b":null}],"c":"\\u00e9"}')


@pytest.mark.parametrize("length", range(len(WHOLE)))
def test_an_event_cut_at_any_byte_is_refused(length: int) -> None:
    for body in (WHOLE[:length], b"[" + WHOLE[:length], b"[%b,%b" % (WHOLE, WHOLE[:length])):
        with pytest.raises(BadBody, match="malformed" if body else "empty"):
            decode(body)
    decoded = DECODER.decode_lines(WHOLE + b"\n" + WHOLE[:length])
    assert len(decoded.events) == 1
    assert len(decoded.rejected) == (length > 0)


@given(st.binary(max_size=200))
@example(b"{\0}")
@example(b"[\xff")
def test_any_bytes_are_decoded_or_refused_in_words(body: bytes) -> None:
    for read in (decode, DECODER.decode_lines):
        with suppress(BadBody):
            assert all(each.error for each in read(body).rejected)


@given(st.data(), st.sampled_from([WHOLE, b"[%b,%b]" % (WHOLE, text()), WHOLE + b"\n" + text()]))
@settings(max_examples=300)
def test_a_changed_body_gives_only_events_that_keep_the_rules(data: st.DataObject, body: bytes) -> None:
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed)))
        changed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.sampled_from(_PIECES) | st.binary(max_size=3))
    for read in (decode, DECODER.decode_lines):
        try:
            decoded = read(bytes(changed))
        except BadBody:
            continue
        for event in decoded.events:
            assert 1 <= len(event.id) <= 256
            assert 1 <= len(event.user_id) <= 256
            assert event.type in {"trip_started", "song_played", "ad_clicked", "location_update"}
            payload = json.loads(bytes(event.payload).decode(), parse_constant=pytest.fail)
            assert isinstance(payload, dict)
            assert "\0" not in event.id + event.user_id + repr(payload).encode().decode("unicode_escape")
            repr(payload).encode()  # no lone surrogate


_PIECES = [b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\0", b"\xff", rb"\u0000", rb"\ud800", b"1e9", b"-"]


# --- lines -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("between", [b"", b" ", b"\r", b","])
def test_two_events_on_one_line_are_refused_whether_or_not_the_other_lines_are_valid(between: bytes) -> None:
    line = text(id="a") + between + text(id="b")
    for others, valid in ((b"", 0), (text(id="c") + b"\n", 1), (b"7\n", 0)):
        decoded = DECODER.decode_lines(others + line)
        assert len(decoded.events) == valid
        assert "trailing characters" in decoded.rejected[-1].error
        assert decoded.rejected[-1].error.endswith("; send one event a line (curl: --data-binary)")


def test_an_event_spread_over_lines_is_refused() -> None:
    decoded = DECODER.decode_lines(json.dumps(json.loads(text()), indent=2).encode())
    assert decoded.events == []
    assert len(decoded.rejected) == 6


def test_the_time_for_one_long_line_grows_with_its_length_and_no_faster() -> None:
    def read(size: int) -> None:
        assert len(decode(text(payload=b'{"a":"%b"}' % (b"x" * size))).events) == 1
        with pytest.raises(BadBody, match="ends in the middle"):
            decode(b'{"a":"' + b"x" * size)
        assert "timestamp`" in rejection(text(timestamp=b"9" * size))
        assert "`id` is too long" in rejection(text(id="x" * size))

    assert_linear(read, int, 10_000_000)


# --- deep nesting ----------------------------------------------------------------------------------------------------


def test_a_payload_may_be_nested_as_deep_as_the_limit() -> None:
    payload = nested(MAX_NESTING)
    bodies = text(id="a", payload=payload), text(id="b", payload=payload)
    assert bytes(decode(bodies[0]).events[0].payload) == payload
    assert len(decode(b"[%b,%b]" % bodies).events) == 2
    assert len(DECODER.decode_lines(b"%b\n%b" % bodies).events) == 2


@pytest.mark.parametrize("depth", [MAX_NESTING + 1, 900, 1_000, 2_000, 5_000, 20_000, 1_000_000])
@pytest.mark.parametrize("kind", ["arrays", "objects"])
def test_a_payload_nested_deeper_is_refused_alike_on_every_python(depth: int, kind: str) -> None:
    deep = nested(depth) if kind == "arrays" else b'{"a":' * depth + b"1" + b"}" * depth
    with pytest.raises(BadBody, match=f"nested too deeply: at most {MAX_NESTING} levels"):
        decode(text(payload=deep))
    decoded = DECODER.decode_lines(text(id="a") + b"\n" + text(payload=deep))
    assert [event.id for event in decoded.events] == ["a"]
    assert "nested too deeply" in decoded.rejected[0].error


def test_deep_nesting_is_no_crash_where_it_is_all_there_is() -> None:
    for body in (
        b"[" * 5_000_000,
        b'{"a":' * 1_000_000,
        b"[" * 1_000_000 + b"]" * 1_000_000,
        b"[[" + b"[[1]]," * 10**6,
    ):
        with pytest.raises(BadBody, match="nested too deeply"):
            decode(body)


def test_brackets_in_strings_and_side_by_side_are_not_deep() -> None:
    assert decode(text(payload=b'{"a":"%b"}' % (b"[" * 5_000))).events
    assert decode(text(payload=b'{"a":"\\"%b"}' % (b"[{" * 5_000))).events
    assert decode(text(payload=b'{"a":[%b[]]}' % (b"[]," * 5_000))).events


# --- bounds on what a refusal costs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [MAX_REJECTIONS, MAX_REJECTIONS + 1])
def test_many_invalid_events_are_told_one_by_one_up_to_a_bound(count: int) -> None:
    bodies = [text(), *[b"7"] * count]
    for read, body in ((decode, b"[%b]" % b",".join(bodies)), (DECODER.decode_lines, b"\n".join(bodies))):
        if count > MAX_REJECTIONS:
            with pytest.raises(BadBody, match=r"more than 1000 events are invalid, the first \(index 1\).*Nothing"):
                read(body)
        else:
            decoded = read(body)
            assert (len(decoded.events), len(decoded.rejected)) == (1, count)


@pytest.mark.parametrize(
    ("read", "make"),
    [
        (decode, lambda size: b"[" + b"1," * (size // 2) + b"1]"),
        (decode, lambda size: b"[" + b"{}," * (size // 3) + b"1]"),
        (decode, lambda size: b"[" + text() + b",1" * (size // 2) + b"]"),
        (DECODER.decode_lines, lambda size: b"1\n" * (size // 2)),
        (DECODER.decode_lines, lambda size: b"\n" * size + b"x"),
    ],
    ids=["numbers", "objects", "one-valid", "lines", "empty-lines"],
)
def test_megabytes_of_tiny_elements_are_refused_without_holding_each(read: Any, make: Callable[[int], bytes]) -> None:
    def refuse(body: bytes) -> None:
        with suppress(BadBody):
            assert len(read(body).rejected) == 1

    body = make(10_000_000)
    tracemalloc.start()
    refuse(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 2**20
    assert_linear(refuse, make, 10_000_000)


def test_a_large_array_of_usual_events_is_told_one_by_one() -> None:
    bodies = [text(id=f"{n:036}") for n in range(20_000)]
    bodies[7] = b"{}"
    body = b"[%b]" % b",".join(bodies)
    assert len(body) > 2**20
    decoded = decode(body)
    assert (len(decoded.events), [each.index for each in decoded.rejected]) == (19_999, [7])
