"""CloudEvents on ``POST /events``: the three modes, what becomes of each attribute, what is refused in which words."""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.base.json.rules import MAX_NESTING, BadBody
from hermes.events.event import Event
from hermes.events.ingest.request import EventRequest
from hermes.events.protocols.cloudevents import CloudEventDecoder
from hermes.events.protocols.post_events import PostEvents
from hermes.net.http.rejection import MAX_REJECTIONS
from tests.events.protocols.kit import assert_keeps_the_rules, mutations, request_to
from tests.growth import assert_linear
from tests.net.http.kit import Answer, FakeIntake, Wire, event, post

NOW = 1_800_000_000.7
DECODER = CloudEventDecoder(("*",), lambda: NOW)
STRUCTURED = b"Content-Type: application/cloudevents+json; charset=utf-8"
BATCH = b"Content-Type: application/cloudevents-batch+json"
JS = b"application/json; charset=utf-8"
BINARY = (b"ce-specversion: 1.0", b"ce-id: 7", b"ce-source: /shop", b"ce-type: order.created")


def cloud(**changes: Any) -> bytes:
    """A CloudEvent in JSON with these attributes changed; None leaves one out."""
    members = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "order.created"} | changes
    return json.dumps({name: value for name, value in members.items() if value is not None}).encode()


def ask(wire: Wire, body: bytes, *lines: bytes) -> Answer:
    (answer,) = wire.feed(post(body, *lines))
    return answer


def take(body: bytes, *lines: bytes) -> Event:
    """The event that a request with one CloudEvent becomes."""
    wire = Wire(event_types=("*",))
    answer = ask(wire, body, *lines)
    assert (answer.status, answer.json) == (202, {"accepted": 1}), answer.body
    (taken,) = wire.intake.taken
    assert_keeps_the_rules(taken)
    return taken


def refusal(body: bytes, *lines: bytes) -> str:
    """Why a request with one CloudEvent is answered 400."""
    wire = Wire(event_types=("*",))
    answer = ask(wire, body, *lines)
    assert answer.status == 400, answer.body
    assert wire.intake.taken == []
    told = answer.json
    return str(told["rejected"][0]["error"] if "rejected" in told else told["detail"])


# --- the mapping -----------------------------------------------------------------------------------------------------


def test_a_structured_event_keeps_its_own_bytes_as_the_payload() -> None:
    body = b'{ "specversion":"1.0", "id":"7", "source":"/shop", "type":"order.created", "ext":1.50, "data":[1,  2] }'
    taken = take(body, STRUCTURED)
    assert (taken.id, taken.user_id, taken.type) == ("/shop 7", "/shop", "order.created")
    assert bytes(taken.payload) == body


@pytest.mark.parametrize(
    ("changes", "user"),
    [
        ({}, "/shop"),
        ({"subject": "ann"}, "ann"),
        ({"subject": ""}, "/shop"),
        ({"subject": "ann", "userid": "bob"}, "bob"),
        ({"subject": "ann", "userid": 7}, "ann"),
        ({"subject": "é" * 256}, "é" * 256),
    ],
)
def test_the_user_is_the_extension_userid_or_the_subject_or_the_source(changes: dict[str, Any], user: str) -> None:
    assert take(cloud(**changes), STRUCTURED).user_id == user


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        (None, int(NOW)),
        ("2024-05-05T10:11:12Z", 1714903872),
        ("2024-05-05T10:11:12.999Z", 1714903872),
        ("2024-05-05T12:11:12.5+02:00", 1714903872),
        ("1970-01-01T00:00:00Z", 0),
        ("9999-12-31T23:59:59Z", 253402300799),
    ],
)
def test_the_time_is_whole_unix_seconds_or_that_of_arrival(stamp: str | None, seconds: int) -> None:
    (only,) = DECODER.decode_structured(request(), cloud(time=stamp)).events
    assert only.timestamp == seconds
    (same,) = DECODER.decode_binary(request(*([("ce-time", stamp)] if stamp else [])), b"{}").events
    assert same.timestamp == seconds


def test_two_events_are_one_only_if_source_and_id_are_both_the_same() -> None:
    first, second = take(cloud(source="/a", id="b/c"), STRUCTURED), take(cloud(source="/a/b", id="c"), STRUCTURED)
    assert first.id != second.id
    assert first.id == take(cloud(source="/a", id="b/c", type="other"), STRUCTURED).id


def test_what_is_longer_than_an_identifier_may_be_is_its_digest() -> None:
    taken = take(cloud(id="x" * 300, subject="y" * 300), STRUCTURED)
    assert taken.id.startswith("sha256:")
    assert taken.user_id.startswith("sha256:")
    assert taken.id != taken.user_id
    assert taken.id == take(cloud(id="x" * 300), STRUCTURED).id


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("com.example.Object.v1", "com.example.Object.v1"),
        ("com.github.pull_request/opened", "com.github.pull_request_opened"),
        ("Order  Completed!", "order_completed"),
        ("Заказ", "cloudevent"),
        ("x" * 65, "x" * 64),
    ],
)
def test_a_type_that_has_not_the_form_is_brought_to_it(name: str, type_: str) -> None:
    assert take(cloud(type=name), STRUCTURED).type == type_


def test_a_type_outside_event_types_is_refused_with_the_setting_to_change() -> None:
    wire = Wire()
    answer = ask(wire, cloud(), STRUCTURED)
    assert answer.status == 400
    assert "'order.created' is not in EVENT_TYPES" in answer.json["rejected"][0]["error"]
    assert ask(wire, cloud(type="song_played"), STRUCTURED).status == 202
    assert wire.rejected == {"invalid": 1}


# --- binary mode -----------------------------------------------------------------------------------------------------


def test_binary_mode_gives_the_json_format_with_the_bodys_own_bytes() -> None:
    taken = take(b'{"n": 1.50,  "a": []}', *BINARY, b"ce-subject: ann", b"Content-Type: application/json")
    assert (taken.id, taken.user_id, taken.type) == ("/shop 7", "ann", "order.created")
    assert bytes(taken.payload) == (
        b'{"specversion":"1.0","id":"7","source":"/shop","type":"order.created","subject":"ann",'
        b'"datacontenttype":"application/json","data":{"n": 1.50,  "a": []}}'
    )


@pytest.mark.parametrize(
    ("label", "body", "members"),
    [
        (b"application/json", b"", {}),
        (b"application/json", b"[1]", {"datacontenttype": "application/json", "data": [1]}),
        (b"application/vnd.x+json", b"1", {"datacontenttype": "application/vnd.x+json", "data": 1}),
        # What the JavaScript SDK (cloudevents 10) sends for a string or bytes without a content type of their own.
        (JS, b"hello world", {"datacontenttype": JS.decode(), "data": "hello world"}),
        (JS, "grüße 😀".encode(), {"datacontenttype": JS.decode(), "data": "grüße 😀"}),
        (JS, b"not found", {"datacontenttype": JS.decode(), "data": "not found"}),
        (JS, b'{"a":1}', {"datacontenttype": JS.decode(), "data": {"a": 1}}),
        (JS, b"null", {"datacontenttype": JS.decode(), "data": None}),
        (JS, b"\0\xff", {"datacontenttype": JS.decode(), "data_base64": "AP8="}),
        (b"text/plain", "grüße".encode(), {"datacontenttype": "text/plain", "data": "grüße"}),
        (b"application/xml", b"<a/>", {"datacontenttype": "application/xml", "data": "<a/>"}),
        (b"text/plain", b"\xff", {"datacontenttype": "text/plain", "data_base64": "/w=="}),
        (b"image/png", b"\x89P", {"datacontenttype": "image/png", "data_base64": b64encode(b"\x89P").decode()}),
        (None, b'{"a":1}', {"data": {"a": 1}}),
        (None, b"\0\xff", {"data_base64": "AP8="}),
        (b"application/x-www-form-urlencoded", b'{"a":1}', {"data": {"a": 1}}),
        (
            b"application/x-www-form-urlencoded",
            b"a=1",
            {"datacontenttype": "application/x-www-form-urlencoded", "data_base64": "YT0x"},
        ),
    ],
)
def test_data_of_any_kind_is_kept(label: bytes | None, body: bytes, members: dict[str, Any]) -> None:
    taken = take(body, *BINARY, *([b"Content-Type: " + label] if label else []))
    found = json.loads(bytes(taken.payload))
    assert {name: found[name] for name in ("datacontenttype", "data", "data_base64") if name in found} == members


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("Euro €".encode(), "Euro €"),
        (b'"a \\"b\\" %25"', 'a "b" %'),
        (b"100%", "100%"),
        (b"%zz", "%zz"),
        (b'"', '"'),
    ],
)
def test_a_header_is_unquoted_and_percent_decoded_once(value: bytes, text: str) -> None:
    assert json.loads(bytes(take(b"", *BINARY, b"ce-subject: " + value).payload))["subject"] == text


@pytest.mark.parametrize(
    ("lines", "body", "words"),
    [
        (BINARY[:2] + BINARY[3:], b"", "missing required field `source`"),
        ((b"ce-specversion: 0.3", *BINARY[1:]), b"", "`$.specversion`"),
        ((*BINARY, b"ce-time: yesterday"), b"", "RFC3339"),
        ((*BINARY, b"ce-time: 2024-05-05T10:11:12"), b"", "timezone"),
        ((*BINARY, b"ce-time: 0001-01-01T00:00:00Z"), b"", "between the years 1970 and 9999"),
        ((*BINARY, b"ce-subject: %ff"), b"", "ce-subject is not percent-encoded UTF-8"),
        ((*BINARY, b"ce-subject: a%00b"), b"", "U+0000"),
        ((*BINARY, b"ce-data: 1"), b"", "ce-data is no attribute"),
        ((*BINARY, b"Content-Type: application/json"), b"{", "JSON is malformed"),
        ((*BINARY, b"Content-Type: application/json"), b"1 2", "one value"),
        ((*BINARY, b"Content-Type: application/json"), b"[draft] x", "JSON is malformed"),
        ((*BINARY, b"Content-Type: application/json"), b"x\0y", "U+0000"),
        ((*BINARY, b"Content-Type: application/json"), b'"\xff"', "UTF-8"),
        ((*BINARY, b"Content-Type: application/json"), rb'"\u0000"', "U+0000"),
        ((*BINARY, b"Content-Type: application/json"), b"[" * MAX_NESTING + b"]" * MAX_NESTING, "nested too deeply"),
        ((*BINARY, b"Content-Type: text/plain"), b"a\0b", "U+0000"),
    ],
)
def test_a_bad_event_in_binary_mode_is_told_why(lines: tuple[bytes, ...], body: bytes, words: str) -> None:
    assert words in refusal(body, *lines)


def test_a_media_type_of_cloudevents_is_never_binary_mode() -> None:
    assert take(cloud(id="8"), STRUCTURED, *BINARY).id == "/shop 8"


def test_heads_of_single_events_do_not_fill_the_memory_of_heads() -> None:
    wire = Wire(event_types=("*",))
    for n in range(5):
        assert ask(wire, b"{}", *BINARY[2:], b"ce-specversion: 1.0", b"ce-id: %d" % n).status == 202
    assert wire.lane.heads._known == {}
    assert wire.intake.ids == [f"/shop {n}" for n in range(5)]


def test_events_of_both_kinds_share_a_connection() -> None:
    wire = Wire(event_types=("*",))
    requests = post(event("own")) + post(b"{}", *BINARY) + post(cloud(id="8"), STRUCTURED) + post(event("last"))
    assert [answer.status for answer in wire.feed(requests)] == [202] * 4
    assert wire.intake.ids == ["own", "/shop 7", "/shop 8", "last"]


# --- structured and batch --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (cloud(id=None), "missing required field `id`"),
        (cloud(id=""), "`id` is empty"),
        (cloud(source="a b"), "no space"),
        (cloud(specversion="0.3"), "`$.specversion`"),
        (cloud(time="2024-13-05T10:11:12Z"), "RFC3339"),
        (cloud(time="1969-12-31T23:59:59Z"), "1970"),
        (cloud(data="a\0b"), "U+0000"),
        (cloud(id="a\0b"), "U+0000"),
        (b"{", "JSON is malformed"),
        (b"", "the body is empty"),
        (b"7", "the value is a number: expected an object"),
        (cloud() + cloud(), "application/cloudevents-batch+json"),
        (cloud()[:-1] + b',"x":' + b'{"a":' * 1200 + b"1" + b"}" * 1201, "nested too deeply"),
        (cloud()[:-1] + b',"data":' + b"[" * MAX_NESTING + b"]" * MAX_NESTING + b"}", "nested too deeply"),
        (cloud()[:-1] + b',"data":"\xff"}', "UTF-8"),
    ],
)
def test_a_bad_structured_event_is_told_why(body: bytes, words: str) -> None:
    assert words in refusal(body, STRUCTURED)


def test_a_batch_is_taken_with_each_events_own_bytes() -> None:
    bodies = [cloud(id=str(n), data={"n": n}) for n in range(3)]
    wire = Wire(event_types=("*",))
    answer = ask(wire, b" [ %b ] " % b" , ".join(bodies), BATCH)
    assert (answer.status, answer.json) == (202, {"accepted": 3})
    assert [bytes(each.payload) for each in wire.intake.taken] == bodies


def test_the_valid_events_of_a_batch_are_taken_and_the_others_told() -> None:
    bodies = [cloud(id="a"), cloud(source=None), cloud(id="c"), b"7", cloud(id="e", data="\0"), cloud(id="f")]
    wire = Wire(event_types=("*",))
    answer = ask(wire, b"[%b]" % b",".join(bodies), BATCH)
    assert (answer.status, answer.json["accepted"]) == (202, 3)
    assert [each["index"] for each in answer.json["rejected"]] == [1, 3, 4]
    assert wire.intake.ids == ["/shop a", "/shop c", "/shop f"]
    assert wire.rejected == {"invalid": 3}


def test_an_empty_batch_is_a_batch() -> None:
    answer = ask(Wire(), b"[]", BATCH)
    assert (answer.status, answer.json) == (202, {"accepted": 0})


@pytest.mark.parametrize("body", [b"{}", b"7", b"", b"[", cloud()])
def test_a_batch_that_is_no_array_is_malformed(body: bytes) -> None:
    wire = Wire()
    assert ask(wire, body, BATCH).status == 400
    assert wire.rejected == {"malformed": 1}


def test_a_batch_of_many_bad_events_is_refused_as_a_whole() -> None:
    with pytest.raises(BadBody, match="more than 1000 events are invalid"):
        DECODER.decode_batch(request(), b"[" + b",".join([b"7"] * (MAX_REJECTIONS + 1)) + b"]")


def test_both_ways_through_a_batch_give_the_same_events() -> None:
    bodies = [cloud(id=str(n), subject="ü" * n, time="2024-05-05T10:11:12Z") for n in range(4)]
    fast = DECODER.decode_batch(request(), b"[%b]" % b",".join(bodies))
    slow = DECODER.decode_batch(request(), b"[%b,7]" % b",".join(bodies))
    assert [_told(each) for each in fast.events] == [_told(each) for each in slow.events]
    assert len(slow.rejected) == 1


def test_other_formats_of_cloudevents_are_not_taken() -> None:
    answer = ask(Wire(), b"{}", b"Content-Type: application/cloudevents+avro")
    assert answer.status == 415
    assert "application/cloudevents+json" in answer.json["detail"]


def test_admission_counts_what_the_events_hold() -> None:
    intake = FakeIntake()
    ask(Wire(intake, event_types=("*",)), b"\xff" * 3000, *BINARY, b"Content-Type: image/png")
    assert intake.sizes[0] > 4000


# --- whatever comes --------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused_in_words(body: bytes) -> None:
    for read in (DECODER.decode_structured, DECODER.decode_batch, DECODER.decode_binary):
        with suppress(BadBody):
            assert all(each.error for each in read(request(), body).rejected)


@given(mutations(cloud(time="2024-05-05T10:11:12Z", subject="a", data={"a": ["\\", 1]})))
def test_a_changed_event_gives_only_events_that_keep_the_rules(body: bytes) -> None:
    for read, sent in ((DECODER.decode_structured, body), (DECODER.decode_batch, b"[%b,%b]" % (cloud(), body))):
        with suppress(BadBody):
            for each in read(request(), sent).events:
                assert_keeps_the_rules(each)


@given(
    st.dictionaries(
        st.sampled_from(
            ["ce-id", "ce-source", "ce-type", "ce-time", "ce-subject", "ce-userid", "ce-x", "content-type"]
        ),
        st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=20),
    ),
    st.binary(max_size=50),
)
def test_any_headers_give_an_event_that_keeps_the_rules_or_a_reason(headers: dict[str, str], body: bytes) -> None:
    with suppress(BadBody):
        decoded = DECODER.decode_binary(request(*headers.items()), body)
        for each in decoded.events:
            assert_keeps_the_rules(each)
        assert len(decoded.events) + len(decoded.rejected) == 1


def test_the_time_to_refuse_tiny_elements_grows_with_their_number_and_no_faster() -> None:
    def refuse(size: int) -> None:
        with pytest.raises(BadBody):
            DECODER.decode_batch(request(), b"[" + b"{}," * size + b"1]")

    assert_linear(refuse, int, 3_000_000)


def request(*headers: tuple[str, str]) -> EventRequest:
    usual = {"ce-specversion": "1.0", "ce-id": "7", "ce-source": "/shop", "ce-type": "order.created"}
    return request_to(PostEvents(["*"], lambda: NOW), "/events", usual | dict(headers))


def _told(taken: Event) -> tuple[Any, ...]:
    return taken.id, taken.user_id, taken.type, taken.timestamp, bytes(taken.payload)
