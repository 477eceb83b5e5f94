"""The JSON of OTLP as protobuf's JSON mapping allows it: every form of a record, and what is wrong in one of many."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import Any

import pytest
from google.protobuf.json_format import ParseError
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from hermes.base.json.rules import BadBody
from hermes.events.protocols.otlp_json_record import Notes, read_record
from hermes.events.protocols.otlp_json_usual import read_usual
from tests.events.protocols.kit import assert_keeps_the_rules
from tests.events.protocols.test_isolation import WRONG
from tests.events.protocols.test_otlp import JSON, ask, decode, packed, record, request, told, value
from tests.net.http.kit import Wire

ID = "5b8efff798038103d269b633813fc60c"


def raw(*records: bytes) -> bytes:
    """A request in JSON with records of any text."""
    return b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b]}]}]}' % b",".join(records)


# --- what the mapping allows -----------------------------------------------------------------------------------------

FORMS: list[tuple[dict[str, Any], dict[str, Any]]] = [  # a form, and the usual way to say the same
    ({"timeUnixNano": 1714903872123456789}, {}),
    ({"timeUnixNano": None, "time_unix_nano": "1714903872123456789"}, {}),
    ({"timeUnixNano": 1714903872000000000.0}, {"timeUnixNano": "1714903872000000000"}),
    ({"timeUnixNano": 1.714903872e18}, {"timeUnixNano": "1714903872000000000"}),
    ({"timeUnixNano": "1.714903872e18"}, {"timeUnixNano": "1714903872000000000"}),
    ({"observed_time_unix_nano": 1}, {"observedTimeUnixNano": "1"}),
    ({"severityNumber": "9"}, {"severityNumber": 9}),
    ({"severityNumber": 9.0}, {"severityNumber": 9}),
    ({"severityNumber": "SEVERITY_NUMBER_INFO"}, {"severityNumber": 9}),
    ({"severityNumber": "SEVERITY_NUMBER_UNSPECIFIED"}, {}),
    ({"severity_number": "SEVERITY_NUMBER_FATAL4", "severity_text": "x"}, {"severityNumber": 24, "severityText": "x"}),
    ({"flags": "1", "droppedAttributesCount": "2"}, {"flags": 1, "droppedAttributesCount": 2}),
    ({"flags": 1.0, "dropped_attributes_count": 2e0}, {"flags": 1, "droppedAttributesCount": 2}),
    ({"severityText": None, "attributes": None, "flags": None, "eventName": None}, {}),
    ({"body": {"string_value": "hello"}}, {}),
    ({"body": {"stringValue": None, "intValue": 7}}, {"body": value(7)}),
    ({"body": {"intValue": "7.0"}}, {"body": value(7)}),
    ({"body": {"intValue": 7.0}}, {"body": value(7)}),
    ({"body": {"int_value": "-7"}}, {"body": value(-7)}),
    ({"body": {"doubleValue": "1.5"}}, {"body": value(1.5)}),
    ({"body": {"doubleValue": 1}}, {"body": value(1.0)}),
    ({"body": {"doubleValue": "1e3"}}, {"body": value(1000.0)}),
    ({"body": {"double_value": "Infinity"}}, {"body": {"doubleValue": "Infinity"}}),
    ({"body": {"bytesValue": "-_8"}}, {"body": {"bytesValue": "+/8="}}),
    ({"body": {"bytes_value": "-_8="}}, {"body": {"bytesValue": "+/8="}}),
    ({"body": {"array_value": {"values": [{"bool_value": True}]}}}, {"body": value([True])}),
    ({"body": {"kvlist_value": {"values": [{"key": "a", "value": None}]}}}, {"body": value({"a": None})}),
    ({"body": {"arrayValue": {"values": None}}}, {"body": value([])}),
    ({"body": {"arrayValue": {}}}, {"body": value([])}),
    ({"body": {}}, {"body": {}}),
    ({"attributes": [{"key": "a"}]}, {"attributes": [{"key": "a", "value": {}}]}),
    ({"newMember": {"x": 1}}, {}),
    ({"traceId": ID.upper()}, {"traceId": ID}),
    ({"traceId": "W47/95gDgQPSabYzgT/GDA=="}, {"traceId": ID}),
    ({"trace_id": "W47_95gDgQPSabYzgT_GDA", "span_id": "7uGbfsPBsXQ"}, {"traceId": ID, "spanId": "eee19b7ec3c1b174"}),
]


@pytest.mark.parametrize(("form", "usual"), FORMS, ids=[json.dumps(form) for form, _ in FORMS])
def test_every_form_of_a_record_is_the_event_that_the_usual_one_is(form: dict[str, Any], usual: dict[str, Any]) -> None:
    written = decode(request(record(**form)))
    assert not written.rejected
    as_usual = request(record(**usual))
    assert told(written.events[0]) == told(decode(as_usual).events[0])
    assert told(written.events[0]) == told(decode(packed(as_usual), "application/x-protobuf").events[0])


NUMBERS = st.sampled_from(
    [
        0,
        1,
        9,
        -1,
        1.0,
        1.5,
        2**31,
        2**53,
        2**64 - 1,
        2**64,
        "1",
        "01",
        "",
        "x",
        "1.0",
        "1e2",
        "9" * 30,
        [],
        {},
    ]
)
# Python's reader of protobuf takes what is empty for any message, and cuts off what an enum has not: its sign, a
# fraction, more than 32 bits.
WHOLE = NUMBERS.filter(lambda number: number in (0, 1, 9, "1", "x", "1e2", "", []))
VALUES = st.dictionaries(
    st.sampled_from(["stringValue", "intValue", "int_value", "doubleValue", "boolValue", "bytesValue"]),
    NUMBERS | st.sampled_from([None, "NaN", "-Infinity", "AP8=", "AP8", "_-8", "A", False, "true", "a"]),
    max_size=1,
).filter(lambda value: value.get("doubleValue") is not False)  # which that reader takes for 0.0


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "timeUnixNano": NUMBERS,
            "observed_time_unix_nano": NUMBERS,
            "severityNumber": WHOLE | st.sampled_from(["SEVERITY_NUMBER_WARN2", "SEVERITY_NUMBER_WARN5", "WARN"]),
            "severity_text": NUMBERS,
            "flags": NUMBERS,
            "body": VALUES
            | NUMBERS.filter(bool)
            | st.lists(VALUES, max_size=2).map(lambda each: {"arrayValue": {"values": each}}),
            "attributes": NUMBERS.filter(bool)
            | st.lists(st.fixed_dictionaries({"key": st.just("a"), "value": VALUES}), max_size=2),
        },
    )
)
def test_what_protobuf_reads_is_read_as_protobuf_reads_it(members: dict[str, Any]) -> None:
    body = request(members)
    in_json = decode(body)
    assert len(in_json.events) + len(in_json.rejected) == 1
    for each in in_json.events:
        assert_keeps_the_rules(each)
    text = Raw(json.dumps(members).encode())
    usual = read_usual(text)
    assert usual is None or usual == read_record(text, Notes())
    with suppress(ParseError):
        in_protobuf = decode(packed(body), "application/x-protobuf")
        assert [told(each) for each in in_json.events] == [told(each) for each in in_protobuf.events]


# --- what is wrong in one record -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        b"null",
        b"7",
        b"[]",
        b'{"timeUnixNano":{"low":1,"high":2}}',
        b'{"timeUnixNano":1714903872.5}',
        b'{"timeUnixNano":1e300}',
        b'{"body":"text"}',
        b'{"body":[]}',
        b'{"body":{"stringValue":7}}',
        b'{"body":{"intValue":18446744073709551616}}',
        b'{"body":{"boolValue":"true"}}',
        b'{"body":{"bytesValue":"?"}}',
        b'{"body":{"arrayValue":{"values":[null]}}}',
        b'{"body":{"arrayValue":7}}',
        b'{"attributes":{"a":1}}',
        b'{"attributes":[null]}',
        b'{"attributes":[{"key":7}]}',
        b'{"severityNumber":"INFO"}',
        b'{"severityNumber":true}',
        b'{"severityText":7}',
        b'{"flags":1.5}',
        b'{"traceId":7}',
        *[b'{"body":{"stringValue":%b}}' % each for each in WRONG.values()],
    ],
)
def test_one_wrong_record_is_a_partial_success(wrong: bytes) -> None:
    usual = json.dumps(record()).encode()
    wire = Wire(event_types=("*",), max_body_bytes=10**6)
    answer = ask(wire, raw(usual, wrong, usual), JSON)
    assert answer.status == 200
    partial = answer.json["partialSuccess"]
    assert partial["rejectedLogRecords"] == "1"
    assert partial["errorMessage"].startswith("1 log record was rejected; record 1: ")
    assert len(wire.intake.taken) == 2
    assert wire.rejected == {"invalid": 1}


def test_wrong_records_spoil_no_other_in_a_request_that_is_decoded_in_pieces() -> None:
    records = [json.dumps(record(body=value(str(n)))).encode() for n in range(2000)]
    wrong = {90 * n + 50: text for n, text in enumerate(WRONG.values())}
    for at, text in wrong.items():
        records[at] = b'{"body":{"stringValue":%b}}' % text
    wire = Wire(event_types=("*",), max_body_bytes=10**7, budget=10**8)
    answer = ask(wire, raw(*records), JSON)
    assert answer.status == 200
    assert answer.json["partialSuccess"]["rejectedLogRecords"] == str(len(wrong))
    told = [json.loads(bytes(each.payload))["body"] for each in wire.intake.taken]
    assert told == [str(n) for n in range(2000) if n not in wrong]


@pytest.mark.parametrize(
    "outer",
    [
        b'{"resource":7,"scopeLogs":[{"logRecords":[{},{}]}]}',
        b'{"resource":{"attributes":{"a":1}},"scopeLogs":[{"logRecords":[{},{}]}]}',
        rb'{"resource":{"attributes":[{"key":"\ud83d"}]},"scopeLogs":[{"logRecords":[{},{}]}]}',
        b'{"scopeLogs":[{"scope":[],"logRecords":[{},{}]}]}',
        b'{"schemaUrl":7,"scopeLogs":[{"logRecords":[{},{}]}]}',
        b'{"scopeLogs":[7],"resource":{}},7',
        b'{"scopeLogs":[{"logRecords":{}}]},null',
        b'{"scopeLogs":7},{"scopeLogs":[{"logRecords":[{]]}]}',
    ],
)
def test_what_is_wrong_around_records_is_the_error_of_these(outer: bytes) -> None:
    usual = raw(json.dumps(record()).encode())
    body = usual.replace(b'{"resourceLogs":[', b'{"resourceLogs":[' + outer + b",", 1)
    wire = Wire(event_types=("*",))
    answer = ask(wire, body, JSON)
    assert answer.status == 200
    assert answer.json["partialSuccess"]["rejectedLogRecords"] == "2"
    assert [json.loads(bytes(each.payload))["body"] for each in wire.intake.taken] == ["hello"]


@pytest.mark.parametrize(
    "body", [b'{"resourceLogs":7}', b'{"resourceLogs":[{]}', b'{"resourceLogs":[{}', b'{"a":"\xff"}']
)
def test_a_request_that_cannot_be_parted_is_refused(body: bytes) -> None:
    with pytest.raises(BadBody):
        decode(body)


# --- names that are not of OTLP's JSON -------------------------------------------------------------------------------


def in_snake_case(body: bytes) -> bytes:
    return re.sub(rb'"[a-z]+[A-Z]\w+":', lambda name: re.sub(rb"[A-Z]", lambda c: b"_" + c[0].lower(), name[0]), body)


OLD = b"instrumentationLibraryLogs"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (in_snake_case, "resource_logs"),
        (lambda body: body.replace(b"logRecords", b"log_records"), "log_records"),
        (lambda body: body.replace(b"timeUnixNano", b"time_unix_nano"), "time_unix_nano"),
        (lambda body: body.replace(b"scopeLogs", OLD).replace(b"scope", b"instrumentationLibrary"), OLD.decode()),
        (lambda body: body.replace(b"scopeLogs", OLD).replace(b"logRecords", b"logs"), OLD.decode()),
    ],
)
def test_other_names_are_read_and_told(change: Any, name: str) -> None:
    usual = request(record(severityNumber=9, severityText="INFO"))
    changed = change(usual)
    assert changed != usual
    wire = Wire(event_types=("*",))
    assert ask(wire, usual, JSON).json == {}
    answer = ask(wire, changed, JSON)
    assert answer.status == 200
    partial = answer.json["partialSuccess"]
    assert (partial["rejectedLogRecords"], repr(name) in partial["errorMessage"]) == ("0", True)
    assert told(wire.intake.taken[0]) == told(wire.intake.taken[1])


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"resourceSpans":[{}]}', "resourceSpans"),
        (b'{"ResourceLogs":[]}', "ResourceLogs"),
        (b'{"resourceLogs":[{"scope_Logs":[]}]}', "scope_Logs"),
        (b'{"resourceLogs":[{"scopeLogs":[{"records":[{}]}]}]}', "records"),
    ],
)
def test_a_request_in_which_no_records_are_found_is_told_so(body: bytes, name: str) -> None:
    wire = Wire(event_types=("*",))
    answer = ask(wire, body, JSON)
    assert answer.status == 200
    partial = answer.json["partialSuccess"]
    assert partial["rejectedLogRecords"] == "0"
    assert f"nothing was read of {name!r}" in partial["errorMessage"]
    assert wire.intake.taken == []
