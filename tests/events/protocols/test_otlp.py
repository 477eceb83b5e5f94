"""OpenTelemetry logs: both encodings give the same events, what becomes of a record, answers exporters understand."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.json_format import Parse
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse

from hermes.base.json.rules import BadBody
from hermes.events.decode import Decoded
from hermes.events.event import Event
from hermes.events.protocols import otlp
from hermes.events.protocols.otlp import OtlpLogs
from hermes.net.http.content import ContentTooLarge
from hermes.net.http.rejection import MAX_REJECTIONS
from tests.events.protocols.kit import assert_keeps_the_rules, mutations, request_to
from tests.growth import assert_linear
from tests.net.http.kit import Answer, FakeIntake, Wire, chunked, head, post

NOW = 1_800_000_000.7
DECODER = OtlpLogs(("*",), 100_000, lambda: NOW)
PROTOBUF = b"Content-Type: application/x-protobuf"
JSON = b"Content-Type: application/json"


def value(of: Any) -> dict[str, Any]:
    """An ``AnyValue`` in OTLP's JSON."""
    match of:
        case None:
            return {}
        case bool():
            return {"boolValue": of}
        case str():
            return {"stringValue": of}
        case int():
            return {"intValue": str(of)}
        case float():
            return {"doubleValue": of}
        case list():
            return {"arrayValue": {"values": [value(each) for each in of]}}
    return {"kvlistValue": {"values": attributes(of)}}


def attributes(of: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value(each)} for key, each in of.items()]


def record(**changes: Any) -> dict[str, Any]:
    members = {"timeUnixNano": "1714903872123456789", "body": value("hello")} | changes
    return {name: each for name, each in members.items() if each is not None}


def request(*records: dict[str, Any], resource: dict[str, Any] | None = None) -> bytes:
    """A request in JSON."""
    resource = {"service.name": "shop"} if resource is None else resource
    scope = {"name": "lib", "version": "1"}
    logs = {"resource": {"attributes": attributes(resource)}, "scopeLogs": [{"scope": scope, "logRecords": records}]}
    return json.dumps({"resourceLogs": [logs]}).encode()


def packed(body: bytes) -> bytes:
    """The same request in protobuf. Its JSON mapping wants ids in base64, so these are put in by name."""
    document = json.loads(body)
    raw = [each for logs in document["resourceLogs"] for inner in logs["scopeLogs"] for each in inner["logRecords"]]
    ids = [[bytes.fromhex(each.pop(name, "")) for name in ("traceId", "spanId")] for each in raw]
    message = Parse(json.dumps(document), ExportLogsServiceRequest())
    records = [each for logs in message.resource_logs for inner in logs.scope_logs for each in inner.log_records]
    for each, (trace_id, span_id) in zip(records, ids, strict=True):
        each.trace_id, each.span_id = trace_id, span_id
    return bytes(message.SerializeToString())


def decode(body: bytes, kind: str = "application/json") -> Decoded:
    request = request_to(DECODER, "/v1/logs", {"content-type": kind})
    return request.format.decode(request, body)


def one(*records: dict[str, Any], **options: Any) -> Event:
    """The event of a request with one valid record, which is the same in both encodings."""
    body = request(*records, **options)
    in_json, in_protobuf = decode(body), decode(packed(body), "application/x-protobuf")
    assert not in_json.rejected
    (only,), (other,) = in_json.events, in_protobuf.events
    assert told(only) == told(other)
    assert_keeps_the_rules(only)
    return only


def told(event: Event) -> tuple[Any, ...]:
    return event.user_id, event.type, event.timestamp, bytes(event.payload)


def ask(wire: Wire, body: bytes, *lines: bytes) -> Answer:
    (answer,) = wire.feed(post(body, *lines, path=b"/v1/logs"))
    return answer


# --- the mapping -----------------------------------------------------------------------------------------------------


def test_a_record_becomes_an_event_with_everything_it_says() -> None:
    full = record(
        observedTimeUnixNano="1714903873000000000",
        severityNumber=9,
        severityText="INFO",
        eventName="order.created",
        attributes=attributes({"enduser.id": "ann", "n": 2**60, "x": 1.5, "ok": True, "list": [1, {"a": None}]}),
        droppedAttributesCount=1,
        flags=1,
        traceId="5b8efff798038103d269b633813fc60c",
        spanId="eee19b7ec3c1b174",
    )
    taken = one(full)
    assert (taken.user_id, taken.type, taken.timestamp) == ("ann", "order.created", 1714903872)
    assert json.loads(bytes(taken.payload)) == {
        "timeUnixNano": "1714903872123456789",
        "observedTimeUnixNano": "1714903873000000000",
        "severityNumber": 9,
        "severityText": "INFO",
        "eventName": "order.created",
        "body": "hello",
        "attributes": {"enduser.id": "ann", "n": 2**60, "x": 1.5, "ok": True, "list": [1, {"a": None}]},
        "droppedAttributesCount": 1,
        "flags": 1,
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "resource": {"attributes": {"service.name": "shop"}},
        "scope": {"name": "lib", "version": "1"},
    }


@pytest.mark.parametrize(
    ("own", "resource", "user"),
    [
        ({"enduser.id": "ann", "user.id": "bob"}, {"service.name": "shop"}, "ann"),
        ({"user.id": "bob"}, {"service.name": "shop"}, "bob"),
        ({"user.id": 7}, {"service.name": "shop"}, "7"),
        ({"user.id": True}, {"service.name": "shop"}, "shop"),
        ({}, {"service.name": "shop", "user.id": "cat"}, "cat"),
        ({}, {"service.name": "shop"}, "shop"),
        ({"service.name": "not here"}, {}, "unknown"),
        ({"user.id": ""}, {}, "unknown"),
    ],
)
def test_the_user_is_named_by_the_record_or_the_resource(
    own: dict[str, Any], resource: dict[str, Any], user: str
) -> None:
    assert one(record(attributes=attributes(own)), resource=resource).user_id == user


@pytest.mark.parametrize(
    ("changes", "type_"),
    [
        ({}, "log"),
        ({"eventName": "browser.page_view"}, "browser.page_view"),
        ({"eventName": "Page View"}, "page_view"),
        ({"attributes": attributes({"event.name": "from.attribute"})}, "from.attribute"),
        ({"eventName": "field", "attributes": attributes({"event.name": "attribute"})}, "field"),
        ({"attributes": attributes({"event.name": 7})}, "log"),
    ],
)
def test_the_type_is_the_name_of_the_event_or_log(changes: dict[str, Any], type_: str) -> None:
    assert one(record(**changes)).type == type_


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({}, 1714903872),
        ({"timeUnixNano": 1714903872999999999}, 1714903872),
        ({"timeUnixNano": None, "observedTimeUnixNano": "1714903875000000000"}, 1714903875),
        ({"timeUnixNano": "0", "observedTimeUnixNano": "1714903875000000000"}, 1714903875),
        ({"timeUnixNano": None}, 1_800_000_000),
    ],
)
def test_the_time_is_that_of_the_event_or_of_its_observation_or_arrival(changes: dict[str, Any], seconds: int) -> None:
    assert one(record(**changes)).timestamp == seconds


def test_values_that_json_lacks_are_strings() -> None:
    values = [{"doubleValue": "NaN"}, {"doubleValue": "-Infinity"}, {"bytesValue": "AP8="}, {"doubleValue": "1.5"}]
    body = {"arrayValue": {"values": values}}
    assert json.loads(bytes(one(record(body=body)).payload))["body"] == ["NaN", "-Infinity", "AP8=", 1.5]


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"body": value("a\0b")}, "U+0000"),
        ({"timeUnixNano": str(2**64 - 1)}, None),
        ({"body": {"intValue": "seven"}}, "intValue is no whole number"),
        ({"body": {"intValue": "9" * 5000}}, "intValue is no whole number"),
        ({"body": {"doubleValue": "x"}}, "doubleValue is no number"),
        ({"timeUnixNano": "soon"}, "nanoseconds is no whole number"),
        ({"timeUnixNano": -1}, "nanoseconds is no whole number"),
        ({"timeUnixNano": "9" * 20}, "nanoseconds is no whole number"),
    ],
)
def test_a_bad_record_is_rejected_beside_others(changes: dict[str, Any], words: str | None) -> None:
    decoded = decode(request(record(), record(**changes), record(body=value("c"))))
    assert [each.index for each in decoded.rejected] == ([1] if words else [])
    assert all(words in each.error for each in decoded.rejected if words)
    for each in decoded.events:
        assert_keeps_the_rules(each)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty"),
        (b"{", "ends in the middle"),
        (b"[]", "the value is an array: expected an object"),
        (b'{"resourceLogs":7}', "`resourceLogs` is "),
        (b'{"x":"\xff"}', "UTF-8"),
        (b'{"resourceLogs":' * 3000 + b"}" * 3000, "`resourceLogs` is "),
        (request(resource={"a": "b"})[:-40], "ends in the middle"),
    ],
)
def test_a_bad_body_in_json_is_told_why(body: bytes, words: str) -> None:
    with pytest.raises(BadBody) as refused:
        decode(body)
    assert words in str(refused.value)


WHOLE = packed(request(record(attributes=attributes({"a": [1, "x"]}), traceId="5b8efff798038103d269b633813fc60c")))


@pytest.mark.parametrize(
    "body",
    [b"\x0a", b"\x0a\x05", b"\x0b", b"\x09\0", b"\x80" * 11, WHOLE[:-1], b"\x0a\x04\x0a\x02\xff\xff", b"\xff\xff\xff"],
)
def test_a_bad_body_in_protobuf_is_told_so(body: bytes) -> None:
    with pytest.raises(BadBody, match="no protobuf of OTLP logs"):
        decode(body, "application/x-protobuf")


def test_one_bad_record_in_protobuf_does_not_spoil_the_others() -> None:
    good = b"\x12\x09\x2a\x07\x0a\x05hello"  # a record with a body
    bad = b"\x12\x05\x2a\x03\x0a\x01\xff"  # a body that is not UTF-8
    scope_logs = good + bad + good
    logs = b"\x12" + bytes([len(scope_logs)]) + scope_logs
    decoded = decode(b"\x0a" + bytes([len(logs)]) + logs, "application/x-protobuf")
    assert [json.loads(bytes(each.payload)) for each in decoded.events] == [{"body": "hello"}] * 2
    assert [each.index for each in decoded.rejected] == [1]


@pytest.mark.parametrize(
    "bad",
    [
        b"\x0a\x03\x0a\x01\xff",  # a resource whose attribute is no message
        b"\x1a\x01\xff",  # a schema URL that is not UTF-8
        b"\x0a" + b"\x86\x80\x40" + b"\x12\x82\x80\x40" + b"x" * (2**20 + 2),  # a resource of more than 1 MiB
    ],
    ids=["resource", "schema-url", "large"],
)
def test_a_bad_resource_in_protobuf_spoils_its_own_records_alone(bad: bytes) -> None:
    records = b"\x12\x04\x12\x02\x10\x01" + b"\x12\x04\x12\x02\x10\x02"  # two scopes with a record each
    logs = [b"", bad, b""]
    body = b"".join(b"\x0a" + varint(len(each + records)) + each + records for each in logs)
    decoded = decode(body, "application/x-protobuf")
    assert [each.index for each in decoded.rejected] == [2, 3]
    assert all("resource or scope of this record" in each.error for each in decoded.rejected)
    assert len(decoded.events) == 4


def test_a_value_may_be_nested_and_too_deep_a_one_is_refused() -> None:
    def nested(depth: int) -> Any:
        return [nested(depth - 1)] if depth else 1

    assert b"[[[[[" in bytes(one(record(body=value(nested(20)))).payload)
    assert len(decode(request(record(body=value(nested(100))))).events) == 1
    for deep in (value(nested(102)), value({"a": nested(101)})):
        decoded = decode(request(record(body=deep), record(), record(attributes=[{"key": "a", "value": deep}])))
        assert [each.index for each in decoded.rejected] == [0, 2]
        assert "at most 100 levels" in decoded.rejected[0].error
    decoded = decode(request(record(), resource={"a": nested(102)}))
    assert [each.error[:11] for each in decoded.rejected] == ["the resourc"]
    assert "at most 100 levels" in decoded.rejected[0].error
    message = ExportLogsServiceRequest.FromString(packed(request(record(), record())))
    inner = message.resource_logs[0].scope_logs[0].log_records[1].body
    for _ in range(60):
        inner = inner.array_value.values.add()
    body = message.SerializeToString()
    assert [each.index for each in decode(body, "application/x-protobuf").rejected] == [1]
    with pytest.raises(BadBody):
        decode(request(record()).replace(b'{"stringValue": "hello"}', b'{"arrayValue":{"values":[' * 2000), "")


def test_what_every_record_repeats_cannot_grow_a_request_past_the_limit() -> None:
    body = request(*[record()] * 50, resource={"a": "x" * 3000})
    for kind, sent in (("application/json", body), ("application/x-protobuf", packed(body))):
        with pytest.raises(ContentTooLarge, match="more than 100000 bytes"):
            decode(sent, kind)
    answer = ask(Wire(max_body_bytes=20_000, event_types=("*",)), body, JSON)
    assert (answer.status, answer.json["code"]) == (413, 8)
    assert "send fewer log records" in answer.json["message"]


@pytest.mark.parametrize("tiny", [b"\x12\x00", b"\x12\x02\x40\x01", b"\x08\x01"])
def test_megabytes_of_tiny_records_are_refused_without_holding_each(tiny: bytes) -> None:
    def make(size: int) -> bytes:
        inner = tiny * (size // len(tiny))
        outer = b"\x12" + varint(len(inner)) + inner
        return b"\x0a" + varint(len(outer)) + outer

    assert_refused_cheaply(make, 400_000, "application/x-protobuf")


@pytest.mark.parametrize("tiny", [b"{},", b'{"body":{}},'])
def test_megabytes_of_tiny_objects_are_refused_without_holding_each(tiny: bytes) -> None:
    def make(size: int) -> bytes:
        return b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[' + tiny * (size // len(tiny)) + b"{}]}]}]}"

    assert_refused_cheaply(make, 1_500_000, "application/json")


def assert_refused_cheaply(make: Callable[[int], bytes], size: int, kind: str) -> None:
    def refuse(body: bytes) -> None:
        with pytest.raises((BadBody, ContentTooLarge)):
            decode(body, kind)

    body = make(size)
    tracemalloc.start()
    refuse(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 2**20
    assert_linear(refuse, make, size)


# --- answers ---------------------------------------------------------------------------------------------------------


def test_success_is_200_in_the_encoding_of_the_request() -> None:
    wire = Wire(event_types=("*",))
    body = request(record())
    in_json, in_protobuf = ask(wire, body, JSON), ask(wire, packed(body), PROTOBUF)
    assert (in_json.status, in_json.headers["content-type"], in_json.json) == (200, "application/json", {})
    assert (in_protobuf.status, in_protobuf.body) == (200, b"")
    assert len(wire.intake.taken) == 2
    assert ask(wire, request(), JSON).status == 200
    assert ask(wire, b"{}", JSON).status == 200
    assert ask(wire, b"", PROTOBUF).status == 200


def test_a_partial_success_says_how_many_and_why() -> None:
    wire = Wire(event_types=("song_played",))
    body = request(record(eventName="song_played"), record(), record())
    partial = ask(wire, body, JSON).json["partialSuccess"]
    assert partial["rejectedLogRecords"] == "2"
    assert "record 1: the type 'log' is not in EVENT_TYPES: add it there" in partial["errorMessage"]
    answer = ask(wire, packed(body), PROTOBUF)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/x-protobuf")
    read = ExportLogsServiceResponse.FromString(answer.body).partial_success
    assert (read.rejected_log_records, read.error_message) == (2, partial["errorMessage"])
    assert len(wire.intake.taken) == 2
    assert wire.rejected == {"invalid": 4}


def test_none_valid_is_a_status_that_names_the_setting() -> None:
    body = request(record(), record())
    answer = ask(Wire(), body, JSON)
    assert (answer.status, answer.json["code"]) == (400, 3)
    assert "2 log records were rejected; record 0: the type 'log' is not in EVENT_TYPES" in answer.json["message"]
    answer = ask(Wire(), packed(body), PROTOBUF)
    assert (answer.status, answer.body[:2]) == (400, b"\x08\x03")
    assert b"EVENT_TYPES" in answer.body


def test_of_many_bad_records_all_are_counted() -> None:
    wire = Wire(max_body_bytes=2**20, event_types=("song_played",))
    body = request(record(eventName="song_played"), *[record()] * (MAX_REJECTIONS + 100))
    assert ask(wire, body, JSON).json["partialSuccess"]["rejectedLogRecords"] == str(MAX_REJECTIONS + 100)
    assert wire.rejected == {"invalid": MAX_REJECTIONS + 100}


def test_no_room_and_no_key_are_statuses_too() -> None:
    body = request(record())
    answer = ask(Wire(FakeIntake(room=0), event_types=("*",)), body, JSON)
    assert (answer.status, answer.headers["retry-after"], answer.json["code"]) == (503, "7", 14)
    answer = ask(Wire(keys=["one"]), body, JSON)
    assert (answer.status, answer.json["code"]) == (401, 16)
    assert ask(Wire(keys=["one"], event_types=("*",)), body, JSON, b"Authorization: Bearer one").status == 200


def test_other_media_types_are_not_taken() -> None:
    answer = ask(Wire(), b"{}", b"Content-Type: text/html")
    assert (answer.status, answer.json["code"]) == (415, 3)
    assert "application/x-protobuf" in answer.json["message"]


def test_without_the_extra_protobuf_is_415_and_says_which_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(otlp, "MISSING", "install 'hermes-events[otlp]'")
    wire = Wire(event_types=("*",))
    answer = ask(wire, WHOLE, PROTOBUF)
    assert answer.status == 415
    assert b"hermes-events[otlp]" in answer.body
    assert ask(wire, request(record()), JSON).status == 200


def test_bodies_may_be_compressed_and_chunked() -> None:
    wire = Wire(event_types=("*",))
    assert ask(wire, gzip.compress(WHOLE), PROTOBUF, b"Content-Encoding: gzip").status == 200
    squeezed = gzip.compress(WHOLE)
    lines = [PROTOBUF, b"Content-Encoding: gzip", b"Transfer-Encoding: chunked"]
    sent = head(*lines, first=b"POST /v1/logs HTTP/1.1") + chunked(squeezed[:7], squeezed[7:])
    assert [answer.status for answer in wire.feed(sent)] == [200]
    assert len(wire.intake.taken) == 2


# --- whatever comes --------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/x-protobuf"]))
def test_any_bytes_are_decoded_or_refused_in_words(body: bytes, kind: str) -> None:
    with suppress(BadBody):
        assert all(each.error for each in decode(body, kind).rejected)


@given(mutations(WHOLE) | mutations(WHOLE).map(lambda body: b"\x0a" + varint(len(body)) + body))
def test_a_changed_body_in_protobuf_gives_only_events_that_keep_the_rules(body: bytes) -> None:
    with suppress(BadBody):
        for each in decode(body, "application/x-protobuf").events:
            assert_keeps_the_rules(each)


@given(mutations(request(record(attributes=attributes({"a": [1, "x", {"b": 1.5}]}), severityNumber=3))))
def test_a_changed_body_in_json_gives_only_events_that_keep_the_rules(body: bytes) -> None:
    with suppress(BadBody):
        for each in decode(body).events:
            assert_keeps_the_rules(each)


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])
