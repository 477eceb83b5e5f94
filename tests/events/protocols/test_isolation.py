"""Whatever is wrong inside one event of several is that event's error alone, in every protocol that sends several.

What cannot be told apart is an array in which a quote or a bracket is missing: that is the request's error.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes.base.json.elements import split_array, split_object
from tests.events.protocols import test_cloudevents as cloudevents
from tests.events.protocols import test_segment as segment
from tests.net.http.kit import Answer, Wire, post

MARK = '"here"'


def own(name: str) -> bytes:
    return json.dumps(
        {"id": name, "user_id": "me", "type": "a", "timestamp": 1, "payload": {"n": "here"}, "more": 1}
    ).encode()


def cloud(name: str) -> bytes:
    return cloudevents.cloud(id=name, data={"n": "here"})


def message(name: str) -> bytes:
    return segment.message(messageId=name, properties={"n": "here"})


Join = Callable[[list[bytes]], bytes]
WAYS: dict[str, tuple[str, bytes, Callable[[str], bytes], Join]] = {
    "array": ("/events", b"application/json", own, lambda each: b"[%b]" % b",".join(each)),
    "lines": ("/events", b"application/x-ndjson", own, b"\n".join),
    "cloudevents": ("/events", cloudevents.BATCH[14:], cloud, lambda each: b" [%b ] " % b" , ".join(each)),
    "segment": ("/v1/batch", b"text/plain", message, lambda each: segment.batch(*each)),
    "segment-context": ("/v1/b", b"text/plain", message, lambda each: segment.batch(*each, context={"ip": "::1"})),
}
EVERY_WAY = pytest.mark.parametrize("way", WAYS)

WRONG = {
    "half an emoji": rb'"\ud83d"',
    "the other half": rb'"\ude00 x"',
    "two first halves": rb'"\ud83d\ud83d"',
    "U+0000": rb'"a\u0000"',
    "a byte of zero": b'"a\0"',
    "not UTF-8": b'"\xff"',
    "a surrogate in UTF-8": b'"\xed\xa0\xbd"',
    "a control character": b'"\x01"',
    "an unknown escape": rb'"\x41"',
    "a short escape": rb'"\u12"',
    "a number with a leading zero": b"01",
    "a number that ends too early": b"1e",
    "not a number": b"NaN",
    "two values": b"1 2",
    "a bare word": b"tru",
    "nothing": b"",
    "the wrong bracket": b'{"a":1]',
    "no value": b'{"a":}',
    "no name": b"{1:1}",
    "501 levels": b"[" * 501 + b"]" * 501,
    "100,000 levels": b"[" * 100_000 + b"]" * 100_000,
    "a name with half an emoji": rb'{"\ud83d":1}',
}


def ask(wire: Wire, way: str, texts: list[bytes]) -> Answer:
    path, kind, _, join = WAYS[way]
    (answer,) = wire.feed(post(join(texts), b"Content-Type: " + kind, path=path.encode()))
    return answer


@EVERY_WAY
@pytest.mark.parametrize("wrong", WRONG)
def test_one_wrong_value_spoils_its_event_only(way: str, wrong: str) -> None:
    make = WAYS[way][2]
    texts = [make("a"), make("b").replace(MARK.encode(), WRONG[wrong], 1), make("c")]
    wire = Wire(event_types=("*",), max_body_bytes=10**6)
    answer = ask(wire, way, texts)
    assert answer.status in {200, 202}, answer.body
    assert [each.split()[-1] for each in wire.intake.ids] == ["a", "c"]
    (rejected,) = answer.json["rejected"]
    assert rejected["index"] == 1
    assert rejected["error"]
    assert wire.rejected == {"invalid": 1}


@EVERY_WAY
def test_wrong_values_spoil_only_their_events_in_a_body_that_is_decoded_in_pieces(way: str) -> None:
    make = WAYS[way][2]
    texts = [make(str(n)) for n in range(3000)]
    wrong = {100 * n + 50: value for n, value in enumerate(WRONG.values())}
    for at, value in wrong.items():
        texts[at] = texts[at].replace(MARK.encode(), value, 1)
    wire = Wire(event_types=("*",), max_body_bytes=10**7, budget=10**8)
    answer = ask(wire, way, texts)
    assert answer.status in {200, 202}, answer.body
    assert [each["index"] for each in answer.json["rejected"]] == list(wrong)
    assert [each.split()[-1] for each in wire.intake.ids] == [str(n) for n in range(3000) if n not in wrong]


@EVERY_WAY
def test_a_number_of_any_length_is_kept_as_it_is(way: str) -> None:
    make = WAYS[way][2]
    wire = Wire(event_types=("*",), max_body_bytes=10**6)
    number = b"9" * 5000
    assert ask(wire, way, [make("a"), make("b").replace(MARK.encode(), number)]).status in {200, 202}
    assert number in bytes(wire.intake.taken[1].payload)


@EVERY_WAY
@settings(max_examples=50)
@given(inside=st.binary(max_size=40).map(lambda each: each.translate(None, b'"\\\n')))
def test_any_bytes_in_a_string_spoil_at_most_its_event(way: str, inside: bytes) -> None:
    make = WAYS[way][2]
    wire = Wire(event_types=("*",))
    answer = ask(wire, way, [make("a"), make("b").replace(MARK.encode(), b'"%b"' % inside), make("c")])
    assert answer.status in {200, 202}
    ids = [each.split()[-1] for each in wire.intake.ids]
    assert ids == (["a", "c"] if "rejected" in answer.json else ["a", "b", "c"])


@pytest.mark.parametrize("way", [way for way in WAYS if way != "lines"])
@pytest.mark.parametrize("cut", ['"', "}", "]"])
def test_an_array_that_cannot_be_parted_is_refused_as_a_whole(way: str, cut: str) -> None:
    _, _, make, join = WAYS[way]
    body = join([make("a"), make("b")])
    at = body.rindex(cut.encode())
    wire = Wire(event_types=("*",))
    path, kind = WAYS[way][0].encode(), WAYS[way][1]
    (answer,) = wire.feed(post(body[:at] + body[at + 1 :], b"Content-Type: " + kind, path=path))
    assert answer.status == 400
    assert wire.intake.taken == []
    assert wire.rejected == {"malformed": 1}


# --- the parting itself ----------------------------------------------------------------------------------------------

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.lists(VALUES, max_size=6), st.sampled_from([None, 1]), st.booleans())
def test_valid_json_is_parted_exactly(values: list[object], indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only).encode()
    assert [json.loads(each) for each in split_array(b" " + text + b"\n")] == values
    members = {str(number): value for number, value in enumerate(values)}
    text = json.dumps(members, indent=indent, ensure_ascii=ascii_only).encode()
    assert {json.loads(name): json.loads(value) for name, value in split_object(text)} == members
