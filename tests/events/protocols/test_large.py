"""Large requests of every protocol: cut into pieces they give the events, and the rejections, of the whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from hermes.base.json.rules import BadBody
from hermes.events.decode import Decoded
from hermes.events.ingest.format import DataProtocol
from hermes.events.ingest.pieces import decode_pieces
from hermes.events.ingest.request import EventRequest
from hermes.events.protocols.otlp import OtlpLogs
from hermes.events.protocols.post_events import PostEvents
from hermes.events.protocols.segment import Segment
from hermes.net.http.head import Head
from hermes.net.http.keys import KeyRefused

MANY = 1_500
EVENTS = PostEvents(("*",), lambda: 1_700_000_000.0)
SEGMENT = Segment(("*",), 10**8, lambda: 1_700_000_000.0)
OTLP = OtlpLogs(("*",), 10**9, lambda: 1_700_000_000.0)


def run(steps: Generator[int, None, Decoded]) -> tuple[Decoded, int]:
    """What the steps return, and how many there were."""
    count = 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, count
        count += 1


def event(n: int) -> dict[str, Any]:
    made: dict[str, Any] = {"user_id": f"u{n}", "type": "x", "timestamp": n, "payload": {"a": [{"b": n}, "},{"]}}
    return made if n % 400 == 7 else {"id": str(n)} | made


def cloud_event(n: int) -> dict[str, Any]:
    made = {"specversion": "1.0", "id": str(n), "source": "/s", "type": "x", "data": {"n": [{}, {"m": n}]}}
    return made | ({"source": "a b"} if n % 400 == 7 else {})


def message(n: int) -> dict[str, Any]:
    made = {"type": "track", "event": "e", "userId": f"u{n}", "messageId": str(n), "properties": {"n": [n, {"a": "é"}]}}
    return made | ({"event": ""} if n % 400 == 7 else {}) | ({"context": {"own": n}} if n % 3 else {})


def batch() -> bytes:
    outer = {"context": {"library": "l"}, "batch": [message(n) for n in range(MANY)], "sentAt": "2024-05-05T10:11:12Z"}
    return json.dumps(outer).encode()


def otlp() -> dict[str, Any]:
    """Resources of many records, of few, and of none, with what they share before and behind them."""

    def attributes(name: str) -> list[dict[str, Any]]:
        return [{"key": "service.name", "value": {"stringValue": name}}]

    def records(count: int) -> list[dict[str, Any]]:
        made = [{"timeUnixNano": str(10**18 + n), "body": {"stringValue": f"b{n}"}} for n in range(count)]
        return [each | {"attributes": attributes(f"a{n}")} for n, each in enumerate(made)]

    def scopes(*counts: int) -> list[dict[str, Any]]:
        return [{"scope": {"name": f"s{count}"}, "logRecords": records(count), "schemaUrl": "u"} for count in counts]

    groups = [scopes(3), scopes(700, 0, 5), scopes(), *[scopes(1)] * 300, scopes(2, 900)]
    return {
        "resourceLogs": [
            {"scopeLogs": group, "resource": {"attributes": attributes(f"r{n}")}} for n, group in enumerate(groups)
        ]
        + [{"scopeLogs": scopes(3, 90), "resource": {"attributes": attributes("r" * 50_000)}}]
    }


OF_OTLP = b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[%b]}]}]}'


def otlp_protobuf() -> bytes:
    from google.protobuf.json_format import ParseDict

    return ParseDict(otlp(), ExportLogsServiceRequest()).SerializeToString()


CASES: dict[str, tuple[DataProtocol, str, str, Callable[[], bytes]]] = {
    "array": (EVENTS, "/events", "application/json", lambda: json.dumps([event(n) for n in range(MANY)]).encode()),
    "lines": (
        EVENTS,
        "/events",
        "application/x-ndjson",
        lambda: b"\n".join(json.dumps(event(n)).encode() for n in range(MANY)),
    ),
    "CloudEvents": (
        EVENTS,
        "/events",
        "application/cloudevents-batch+json",
        lambda: json.dumps([cloud_event(n) for n in range(MANY)]).encode(),
    ),
    "Segment": (SEGMENT, "/v1/batch", "application/json", batch),
    "OTLP JSON": (OTLP, "/v1/logs", "application/json", lambda: json.dumps(otlp()).encode()),
    "OTLP JSON, old names": (
        OTLP,
        "/v1/logs",
        "application/json",
        lambda: json.dumps(otlp()).replace("scopeLogs", "scope_logs").replace("logRecords", "logs").encode(),
    ),
    "OTLP protobuf": (OTLP, "/v1/logs", "application/x-protobuf", otlp_protobuf),
}


@pytest.mark.parametrize("keyed", [False, True], ids=["", "keyed"])
@pytest.mark.parametrize("name", CASES)
def test_pieces_give_what_the_whole_gives(name: str, keyed: bool) -> None:
    protocol, path, kind, make = CASES[name]
    headers = {"content-type": kind} | ({"idempotency-key": "k"} if keyed else {})
    head, body = Head("POST", path, headers), make()
    request = EventRequest(head, protocol.choose(head))
    whole = request.format.decode(request, body)
    cut, steps = run(decode_pieces(request, [body], iter(()), 10**6))
    assert steps > 5
    # Without a key, an event that has no id of its own gets another each time.
    assert [each.id for each in cut.events] == [each.id for each in whole.events] or (protocol is OTLP and not keyed)
    assert [(each.user_id, each.type, each.timestamp, bytes(each.payload)) for each in cut.events] == [
        (each.user_id, each.type, each.timestamp, bytes(each.payload)) for each in whole.events
    ]
    assert list(cut.rejected) == list(whole.rejected)
    assert cut.note == whole.note
    assert cut.events
    assert len({each.id for each in cut.events}) == len(cut.events)


@pytest.mark.parametrize("wrong", [0, 2, 5])
def test_a_wrong_message_alone_in_its_piece_needs_no_key_where_another_has_one(wrong: int) -> None:
    messages = [message(n + 10) | {"writeKey": "k"} for n in range(6)]
    messages[wrong] |= {"event": 5, "properties": {"x": "y" * 20_000}}
    head, body = Head("POST", "/v1/batch", {}), json.dumps({"batch": messages}).encode()
    request = EventRequest(head, SEGMENT.choose(head))
    request.admit = "k".__eq__
    cut, _ = run(decode_pieces(request, [body], iter(()), 10**6))
    assert ([each.index for each in cut.rejected], len(cut.events)) == ([wrong], 5)
    request.admit = "other".__eq__
    with pytest.raises(KeyRefused):
        run(decode_pieces(request, [body], iter(()), 10**6))


def of_otlp(record: dict[str, Any]) -> Iterator[Decoded]:
    """A request with a record between two good ones, decoded in pieces, from either encoding."""
    from google.protobuf.json_format import ParseDict

    good = {"body": {"stringValue": "good"}}
    request = {"resourceLogs": [{"scopeLogs": [{"logRecords": [good, record, good]}]}]}
    for kind, body in (
        ("application/json", json.dumps(request).encode()),
        ("application/x-protobuf", ParseDict(request, ExportLogsServiceRequest()).SerializeToString()),
    ):
        head = Head("POST", "/v1/logs", {"content-type": kind})
        yield run(decode_pieces(EventRequest(head, OTLP.choose(head)), [body], iter(()), 10**6))[0]


def values_of(count: int) -> dict[str, Any]:
    return {"kvlistValue": {"values": [{"key": "k", "value": {"intValue": "1"}}] * count}}


@pytest.mark.parametrize(
    "record",
    [
        {"body": values_of(9000)},
        {"attributes": [{"key": "k", "value": {"arrayValue": {"values": [{}] * 9000}}}]},
        {"body": {"arrayValue": {"values": [values_of(1000)] * 9}}},
    ],
    ids=["objects", "arrays", "both"],
)
def test_a_record_of_many_values_is_refused_alone(record: dict[str, Any]) -> None:
    for decoded in of_otlp(record):
        assert [(each.index, each.error) for each in decoded.rejected] == [(1, "it has more than 8192 values")]
        assert len(decoded.events) == 2


def test_numbers_without_braces_are_counted_by_their_commas_and_commas_of_a_text_are_not() -> None:
    head = Head("POST", "/v1/logs", {"content-type": "application/json"})
    request = EventRequest(head, OTLP.choose(head))
    numbers, text = json.dumps([1] * 40_000), json.dumps({"stringValue": '", ' * 50_000})
    body = OF_OTLP % f'{{"body":{numbers}}},{{"body":{text}}}'.encode()
    decoded, _ = run(decode_pieces(request, [body], iter(()), 10**6))
    assert ([each.index for each in decoded.rejected], len(decoded.events)) == ([0], 1)


@pytest.mark.parametrize("text", ['\n\t"\\' * 50_000, "é😀" * 50_000, "\x1b[0m text" * 20_000, "2\n" * 100_000])
def test_a_long_text_of_a_record_is_taken_in_both_encodings(text: str) -> None:
    json_, protobuf = of_otlp({"body": {"stringValue": text}})
    assert (json_.rejected, protobuf.rejected) == ([], [])
    assert [bytes(each.payload) for each in json_.events] == [bytes(each.payload) for each in protobuf.events]


def test_a_large_record_that_grows_with_control_characters_is_refused_alone() -> None:
    _, decoded = of_otlp({"attributes": [{"key": "k", "value": {"stringValue": "\x01a" * 50_000}}]})
    assert [each.index for each in decoded.rejected] == [1]
    assert "control characters" in decoded.rejected[0].error


_LONG = json.dumps(event(1) | {"payload": {"x": "y" * 2**18}}).encode()


@pytest.mark.parametrize(
    "line",
    [_LONG[:-2], _LONG + _LONG[:99], _LONG + b"}", b"}" + _LONG, b" " * 2**18, b" " * 2**18 + _LONG, b"x" * 2**18],
    ids=["cut off", "two", "a brace too many", "a brace before it", "blank", "indented", "no JSON"],
)
def test_a_long_line_that_is_wrong_is_refused_alone(line: bytes) -> None:
    good = json.dumps(event(2)).encode()
    head, body = Head("POST", "/events", {"content-type": "application/x-ndjson"}), b"\n".join([good, line, good, b""])
    request = EventRequest(head, EVENTS.choose(head))
    whole = request.format.decode(request, body)
    cut, _ = run(decode_pieces(request, [body], iter(()), 10**6))
    assert len(cut.events) == len(whole.events)
    assert [each.index for each in cut.rejected] == [each.index for each in whole.rejected]


def test_a_message_that_takes_long_to_decode_is_refused_alone() -> None:
    many = ",".join([f'"{n}":0' for n in range(150_000)])
    wrong = json.dumps(message(10))[:-1] + f",{many}}}"
    head = Head("POST", "/v1/batch", {})
    request = EventRequest(head, SEGMENT.choose(head))
    good = json.dumps(message(11))
    cut, _ = run(decode_pieces(request, [f'{{"batch":[{good},{wrong},{good}]}}'.encode()], iter(()), 10**6))
    assert ([each.index for each in cut.rejected], len(cut.events)) == ([1], 2)
    keyed = wrong[:-1] + ',"writeKey":"k"}'
    head = Head("POST", "/v1/track", {})
    request = EventRequest(head, SEGMENT.choose(head))
    cut, _ = run(decode_pieces(request, [keyed.encode()], iter(()), 10**6))
    assert "beside its long values" in cut.rejected[0].error


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("application/json", json.dumps({"a": ["é" * 90_000, list(range(9000))]}).encode()),
        ("application/json", b'  "' + b"a" * 200_000 + b'" '),
        ("application/json", b"no JSON " * 30_000),
        ("application/json", b"\xff" * 200_000),
        ("text/plain", 'é\x01"\\😀'.encode() * 30_000),
        ("text/plain", b"a" * 150_000 + b"\xc3"),
        ("image/png", bytes(range(256)) * 1000),
        ("", json.dumps({"a": "b" * 200_000}).encode()),
    ],
)
def test_large_data_of_the_binary_mode_is_the_same_whole_and_in_pieces(kind: str, data: bytes) -> None:
    names = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "x", "content-type": kind}
    head = Head("POST", "/events", names)
    request = EventRequest(head, PostEvents(("*",), lambda: 1.0).choose(head))
    cut, _ = run(decode_pieces(request, [data], iter(()), 10))
    assert cut.events == request.format.decode(request, data).events
    assert len(cut.events) == 1


@pytest.mark.parametrize("blanks", [0, 63, 64, 5000])
@pytest.mark.parametrize("start", [b'{"a": 1 ', b"[1 ", b"words ", b"tru ", b'"text'])
def test_a_large_body_with_a_label_is_judged_as_a_small_one(blanks: int, start: bytes) -> None:
    event_headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t"}
    head = Head("POST", "/events", {"content-type": "application/json", **event_headers})
    request = EventRequest(head, EVENTS.choose(head))

    def judge(size: int, decode: Callable[[bytes], Any]) -> str:
        try:
            found = decode(b" " * blanks + start + b"x" * size)
        except BadBody:
            return "refused"
        return f"{len(found.events)} taken, {len(found.rejected)} rejected"

    small = judge(10, lambda body: request.format.decode(request, body))
    assert judge(300_000, lambda body: run(decode_pieces(request, [body], iter(()), 10**6))[0]) == small
