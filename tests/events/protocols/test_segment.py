"""Segment's HTTP API: every path, what becomes of a message, keys in head and body, answers that SDKs understand."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from base64 import b64encode
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.base.json.rules import MAX_NESTING, BadBody
from hermes.events.event import Event
from hermes.events.protocols.segment import Segment
from hermes.net.http.rejection import MAX_REJECTIONS
from tests.events.protocols.kit import assert_keeps_the_rules, mutations, request_to
from tests.net.http.kit import Answer, FakeIntake, Wire, event, post, post_chunked

NOW = 1_800_000_000.7
DECODER = Segment(("*",), 10_000, lambda: NOW)
UNREADABLE_TIMES: list[object] = ["now", "", 7, 1e18, [], {}, True]


def message(**changes: Any) -> bytes:
    """A track message with these members changed; None leaves one out."""
    members = {"type": "track", "event": "song_played", "messageId": "7", "userId": "ann"} | changes
    return json.dumps({name: value for name, value in members.items() if value is not None}).encode()


def batch(*messages: bytes, **members: Any) -> bytes:
    head = "".join(f'"{name}":{json.dumps(value)},' for name, value in members.items())
    return b'{%b"batch":[%b]}' % (head.encode(), b",".join(messages))


def ask(wire: Wire, path: str, body: bytes, *lines: bytes) -> Answer:
    (answer,) = wire.feed(post(body, *lines, path=path.encode()))
    return answer


def decode(body: bytes, path: str = "/v1/track") -> Event:
    """The event of a request with one valid message."""
    decoded = DECODER.decode(request_to(DECODER, path), body)
    assert not decoded.rejected
    (only,) = decoded.events
    assert_keeps_the_rules(only)
    return only


def refusal(body: bytes, path: str = "/v1/track") -> str:
    try:
        decoded = DECODER.decode(request_to(DECODER, path), body)
    except BadBody as error:
        return str(error)
    assert not decoded.events
    return decoded.rejected[0].error


# --- paths and labels ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "type_"),
    [
        (["/v1/track", "/v1/t"], "song_played"),
        (["/v1/identify", "/v1/i"], "identify"),
        (["/v1/page", "/v1/p"], "page"),
        (["/v1/screen", "/v1/s"], "screen"),
        (["/v1/group", "/v1/g"], "group"),
        (["/v1/alias", "/v1/a"], "alias"),
    ],
)
def test_a_path_of_one_message_says_its_type(paths: list[str], type_: str) -> None:
    for path in paths:
        wire = Wire(event_types=("*",))
        answer = ask(wire, path, message(type=None))
        assert (answer.status, answer.json) == (200, {"success": True})
        assert [(each.id, each.user_id, each.type) for each in wire.intake.taken] == [("7", "ann", type_)]


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/import", "/v1/b", "/beacon/v1/batch"])
def test_a_batch_has_messages_of_every_type(path: str) -> None:
    kinds = ["track", "identify", "page", "screen", "group", "alias"]
    wire = Wire(event_types=("*",))
    answer = ask(wire, path, batch(*[message(type=kind, messageId=kind) for kind in kinds]))
    assert (answer.status, answer.json) == (200, {"success": True})
    assert [each.type for each in wire.intake.taken] == ["song_played", *kinds[1:]]
    assert wire.intake.ids == kinds


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b"Content-Type: application/json"],
        [b"Content-Type: text/plain;charset=UTF-8"],
        [b"Content-Type: application/x-www-form-urlencoded"],
        [b"Content-Type: application/octet-stream"],
    ],
)
def test_any_label_is_read_as_json(lines: list[bytes]) -> None:
    assert ask(Wire(), "/v1/track", message(), *lines).status == 200


def test_bodies_may_be_compressed_and_chunked() -> None:
    wire = Wire()
    assert ask(wire, "/v1/batch", gzip.compress(batch(message())), b"Content-Encoding: gzip").status == 200
    packed = gzip.compress(batch(message()))
    request = post_chunked(packed[:9], packed[9:], lines=[b"Content-Encoding: gzip"])
    (answer,) = wire.feed(request.replace(b"/events", b"/v1/batch", 1))
    assert answer.status == 200
    assert wire.intake.ids == ["7", "7"]


def test_what_the_browser_library_says_about_itself_is_not_kept() -> None:
    wire = Wire(keys=["one"])
    answer = ask(wire, "/v1/m", b'{"series":[]}', b"Content-Type: text/plain")
    assert (answer.status, answer.json) == (200, {"success": True})
    assert wire.intake.taken == []
    assert wire.lane.answered["/v1/m", 200] == 1


# --- the mapping -----------------------------------------------------------------------------------------------------


def test_the_payload_is_the_messages_own_bytes() -> None:
    body = b'{ "event":"song_played", "messageId":"7", "userId":"ann",\n "properties":{"n": 1.50} }'
    assert bytes(decode(body).payload) == body
    assert bytes(decode(batch(body.replace(b"{ ", b'{ "type":"track",', 1)), "/v1/batch").payload).endswith(b"1.50} }")


@pytest.mark.parametrize(
    ("changes", "user"),
    [
        ({"userId": "ann", "anonymousId": "x"}, "ann"),
        ({"userId": None, "anonymousId": "x"}, "x"),
        ({"userId": "", "anonymousId": "x"}, "x"),
        ({"userId": 7}, "7"),
        ({"userId": 0, "anonymousId": "x"}, "0"),
    ],
)
def test_the_user_is_the_user_id_or_the_anonymous_id(changes: dict[str, Any], user: str) -> None:
    assert decode(message(**changes)).user_id == user


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("song_played", "song_played"),
        ("SongPlayed", "SongPlayed"),
        ("Order Completed", "order_completed"),
        ("  Order / Completed (v2) ", "order_completed_v2"),
        ("Заказ", "track"),
        ("x" * 100, "x" * 64),
    ],
)
def test_the_name_of_a_track_event_becomes_a_type(name: str, type_: str) -> None:
    assert decode(message(event=name)).type == type_


@pytest.mark.parametrize(
    ("stamps", "seconds"),
    [
        ({}, 1_800_000_000),
        ({"timestamp": "2024-05-05T10:11:12.9Z"}, 1714903872),
        ({"timestamp": "2024-05-05T10:11:12"}, 1714903872),
        ({"originalTimestamp": "2024-05-05T12:11:12+02:00", "timestamp": "2020-01-01T00:00:00Z"}, 1714903872),
        # Ten seconds passed on the client's clock, whatever that says.
        ({"timestamp": "1999-01-01T00:00:00Z", "sentAt": "1999-01-01T00:00:10Z"}, 1_799_999_990),
        ({"timestamp": "2050-01-01T00:00:00Z", "sentAt": "2050-01-01T00:00:10Z"}, 1_799_999_990),
        # Sent before it happened: no clock can be judged by that.
        ({"timestamp": "2024-05-05T10:11:12Z", "sentAt": "0001-01-01T00:00:00Z"}, 1714903872),
        ({"sentAt": "2024-05-05T10:11:12Z"}, 1_800_000_000),
        *[({"timestamp": "2024-05-05T10:11:12Z", "sentAt": odd}, 1714903872) for odd in UNREADABLE_TIMES],
    ],
)
def test_the_time_is_corrected_by_the_clients_clock_if_that_can_be_read(stamps: dict[str, Any], seconds: int) -> None:
    assert decode(message(**stamps)).timestamp == seconds


def test_the_time_of_sending_of_a_batch_is_that_of_its_messages() -> None:
    one = message(timestamp="1999-01-01T00:00:00Z")
    other = message(timestamp="1999-01-01T00:00:00Z", sentAt="1999-01-01T00:00:05Z")
    decoded = DECODER.decode(request_to(DECODER, "/v1/batch"), batch(one, other, sentAt="1999-01-01T00:00:10Z"))
    assert [each.timestamp for each in decoded.events] == [1_799_999_990, 1_799_999_995]


def test_the_context_of_a_batch_is_that_of_its_messages() -> None:
    body = batch(message(), message(context={"own": 1}), context={"ip": "1.2.3.4"}, integrations={"All": True})
    first, second = DECODER.decode(request_to(DECODER, "/v1/batch"), body).events
    assert json.loads(bytes(first.payload))["context"] == {"ip": "1.2.3.4"}
    assert json.loads(bytes(first.payload))["integrations"] == {"All": True}
    assert json.loads(bytes(second.payload))["context"] == {"own": 1}


def test_a_shared_context_cannot_grow_a_request_past_the_limit() -> None:
    wire = Wire(max_body_bytes=20_000, event_types=("*",))
    answer = ask(wire, "/v1/batch", batch(*[message()] * 100, context={"a": "x" * 1000}))
    assert answer.status == 413
    assert wire.intake.taken == []
    assert ask(wire, "/v1/batch", batch(*[message()] * 10, context={"a": "x" * 1000})).status == 200
    assert wire.intake.sizes[0] > 10_000


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        (message(event=None), "/v1/track", "name of its event"),
        (message(event=""), "/v1/track", "name of its event"),
        (message(userId=None), "/v1/track", "userId or an anonymousId"),
        (message(userId=True), "/v1/track", "`userId` is "),
        (message(userId={"a": 1}), "/v1/track", "`userId` is "),
        (message(timestamp="yesterday"), "/v1/track", "timestamp 'yesterday' cannot be read"),
        (message(timestamp="0001-01-01T00:00:00Z"), "/v1/track", "between the years 1970 and 9999"),
        (message(messageId=7), "/v1/track", "`messageId` is a number: expected text or null"),
        (message(userId="a\0b"), "/v1/track", "U+0000"),
        (b"{", "/v1/track", "malformed"),
        (b"", "/v1/track", "empty"),
        (b"[]", "/v1/track", "the value is an array: expected an object"),
        (message() + message(), "/v1/track", '{"batch": [...]}'),
        (message()[:-1] + b',"p":' + b"[" * MAX_NESTING + b"]" * MAX_NESTING + b"}", "/v1/track", "too deeply"),
        (batch(message(type="delete")), "/v1/batch", "'delete' is none of track, identify"),
        (batch(message(type=None)), "/v1/batch", "missing required field `type`"),
        (batch(message(type="")), "/v1/batch", "'' is none of track, identify"),
        (b'{"batch":{}}', "/v1/batch", "`batch` is an object: expected an array"),
        (b'{"batch":7}', "/v1/batch", "`batch` is a number: expected an array"),
        (message(), "/v1/batch", "missing required field `batch`"),
        (b"[]", "/v1/batch", "the value is an array: expected an object"),
        (b'{"batch":[{', "/v1/batch", "ends in the middle"),
        (message()[:-1] + rb',"a":"\ud83d"}', "/v1/track", "half of a surrogate pair"),
        (b'{"batch":[],"batch":"\xff"}', "/v1/batch", "`batch` is text: expected an array"),
        (batch(message(), context={"a": "\0"}), "/v1/batch", "U+0000"),
    ],
)
def test_a_bad_message_is_told_why(body: bytes, path: str, words: str) -> None:
    assert words in refusal(body, path)


def test_none_valid_is_200_with_all_told_so_that_nothing_is_sent_again() -> None:
    wire = Wire()
    for path, body in (("/v1/track", message(event=None)), ("/v1/t", message()[:-1] + rb',"a":"\ud83d"}')):
        answer = ask(wire, path, body)
        assert (answer.status, answer.json["success"], answer.json["accepted"]) == (200, True, 0)
        assert [each["index"] for each in answer.json["rejected"]] == [0]
    wire.rejected.clear()
    answer = ask(wire, "/v1/batch", batch(message(event="Order Completed"), message(event=None)))
    assert answer.status == 200
    told = answer.json
    assert (told["success"], told["accepted"]) == (True, 0)
    assert "EVENT_TYPES" in told["rejected"][0]["error"]
    assert "'Order Completed'" in told["rejected"][0]["error"]
    assert wire.rejected == {"invalid": 2}


def test_some_valid_is_200_with_the_others_told() -> None:
    wire = Wire()
    answer = ask(wire, "/v1/batch", batch(message(messageId="a"), message(type="page"), message(messageId="c")))
    assert answer.status == 200
    assert (answer.json["success"], answer.json["accepted"]) == (True, 2)
    assert [each["index"] for each in answer.json["rejected"]] == [1]
    assert wire.intake.ids == ["a", "c"]


def test_an_empty_batch_is_a_success() -> None:
    assert ask(Wire(), "/v1/batch", batch()).json == {"success": True}


def test_no_room_is_503_with_a_time_to_come_again() -> None:
    answer = ask(Wire(FakeIntake(room=0)), "/v1/batch", batch(message()))
    assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    assert (answer.json["success"], answer.json["code"]) == (False, "service_unavailable")


@pytest.mark.parametrize("odd", [b"7", b"true", b"[]", b'"soon"', b"1e99", rb'"\ud83d"', b'"\xff"', b'{"a":1]', b"01"])
@pytest.mark.parametrize("name", [b"sentAt", b"writeKey", b"context", b"integrations", b"metadata"])
def test_what_cannot_be_read_beside_the_messages_does_not_refuse_them(name: bytes, odd: bytes) -> None:
    wire = Wire(event_types=("*",))
    own = message(messageId="own", context={}, integrations={})
    answer = ask(wire, "/v1/batch", b'{"%b":%b,"batch":[%b,%b]}' % (name, odd, own, message()))
    assert (answer.status, answer.json["success"]) == (200, True)
    broken = name in {b"context", b"integrations"} and odd not in {b"7", b"true", b"[]", b'"soon"', b"1e99"}
    assert wire.intake.ids == (["own"] if broken else ["own", "7"])
    assert [
        each["error"].endswith(f"- at `$.{name.decode()}` of the batch") for each in answer.json.get("rejected", [])
    ] == ([True] if broken else [])


@pytest.mark.parametrize("odd", [b"7", b"null", rb'"\ud83d"', b"{}"])
def test_a_key_that_cannot_be_read_is_none(odd: bytes) -> None:
    wire = Wire(keys=["7"], event_types=("*",))
    assert ask(wire, "/v1/batch", b'{"writeKey":%b,"batch":[%b]}' % (odd, message())).status == 401
    assert ask(wire, "/v1/track", message()[:-1] + b',"writeKey":%b}' % odd).status == 401
    assert wire.intake.taken == []


@pytest.mark.parametrize(
    ("changes", "user"),
    [
        (
            {"mergeProperties": [{"type": "email", "value": "a@b.example"}, {"type": "phone", "value": "1"}]},
            "a@b.example",
        ),
        ({"mergeProperties": [{"type": "crm", "value": 7}]}, "7"),
        ({"userId": "ann"}, "ann"),
    ],
)
def test_a_merge_names_whom_it_is_about_by_its_properties(changes: dict[str, Any], user: str) -> None:
    merge = message(**{"type": "merge", "event": None, "userId": None} | changes)
    for path, body in (("/v1/merge", merge), ("/v1/batch", batch(merge))):
        only = decode(body, path)
        assert (only.type, only.user_id) == ("merge", user)
    odd: object
    for odd in (None, [], {}, [7], [{}], [{"value": []}], [{"value": True}]):
        assert "userId or an anonymousId" in refusal(
            message(type="merge", userId=None, mergeProperties=odd), "/v1/merge"
        )


@pytest.mark.parametrize("tiny", [b"{}", b"1", b'{"type":""}', b'{"type":"page"}'])
def test_a_mass_of_tiny_messages_is_refused_without_holding_each(tiny: bytes) -> None:
    body = b'{"batch":[%b]}' % b",".join([tiny] * (200_000 // len(tiny)))
    wire = Wire(FakeIntake(), max_body_bytes=300_000)
    tracemalloc.start()
    answer = ask(wire, "/v1/batch", body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.status in {200, 413}  # 413: they are more than the queue could ever hold
    assert peak < 4 * 2**20


@pytest.mark.parametrize(("ack", "status"), [("accepted", 200), ("delivered", 200), ("durable", 400), ("soon", 400)])
def test_hermes_ack_is_heard_and_answered_in_the_words_of_the_protocol(ack: str, status: int) -> None:
    wire = Wire()
    answer = ask(wire, "/v1/batch", batch(message()), b"Hermes-Ack: " + ack.encode())
    assert answer.status == status
    assert answer.json["success"] is (status == 200)
    if status == 400:
        assert "Hermes-Ack" in answer.json["message"]
    else:
        assert [each.name for each in wire.intake.asked] == (["DELIVERED"] if ack == "delivered" else ["ACCEPTED"])


# --- keys ------------------------------------------------------------------------------------------------------------


def basic(name: str) -> bytes:
    return b"Authorization: Basic " + b64encode(name.encode())


@pytest.mark.parametrize(
    ("lines", "members", "status"),
    [
        ([basic("one:")], {}, 200),
        ([basic("two:")], {"writeKey": "wrong"}, 200),
        ([b"Authorization: Bearer one"], {}, 200),
        ([b"X-API-Key: one"], {}, 200),
        ([], {"writeKey": "one"}, 200),
        ([], {}, 401),
        ([], {"writeKey": "wrong"}, 401),
        ([], {"writeKey": None}, 401),
        ([basic("wrong:")], {"writeKey": "one"}, 401),
        ([basic("one:password")], {"writeKey": "one"}, 401),
        ([basic("one")], {}, 401),
        ([b"Authorization: Basic ?"], {}, 401),
    ],
)
def test_a_key_is_taken_from_the_head_or_else_from_the_body(
    lines: list[bytes], members: dict[str, Any], status: int
) -> None:
    for path, body in (("/v1/batch", batch(message(), **members)), ("/v1/t", message(**members))):
        wire = Wire(keys=["one", "two"])
        for _ in range(2):
            assert ask(wire, path, body, *lines).status == status
        assert len(wire.intake.taken) == (2 if status == 200 else 0)
        assert wire.rejected == ({"unauthorized": 2} if status == 401 else {})


def test_the_messages_of_a_batch_may_each_have_the_key_but_all_must() -> None:
    wire = Wire(keys=["one"])
    with_key = message(writeKey="one")
    assert ask(wire, "/v1/b", batch(with_key, with_key)).status == 200
    assert ask(wire, "/v1/b", batch(with_key, message())).status == 401
    assert ask(wire, "/v1/b", batch()).status == 401
    assert ask(wire, "/v1/b", batch(b"7")).status == 401
    assert len(wire.intake.taken) == 2


@pytest.mark.parametrize(
    ("query", "status"), [("?writeKey=one%2B", 200), ("?writeKey=two", 401), ("?x=1", 401), ("", 401)]
)
def test_a_beacon_has_its_key_in_the_query(query: str, status: int) -> None:
    wire = Wire(keys=["one+"])
    assert ask(wire, f"/beacon/v1/batch{query}", batch(message()), b"Content-Type: text/plain").status == status
    assert ask(wire, f"/v1/track{query}", message()).status == status
    assert len(wire.intake.taken) == (2 if status == 200 else 0)


def test_a_message_that_is_not_valid_and_has_the_key_is_told_why() -> None:
    wire = Wire(keys=["one"])
    answer = ask(wire, "/v1/track", message(event=None, writeKey="one"))
    assert (answer.status, len(answer.json["rejected"])) == (200, 1)


@pytest.mark.parametrize("invalid", [b"7", b'{"type":"track","userId":"ann"}', b'{"type":"track","event":"\\ud83d"}'])
def test_any_number_of_invalid_messages_is_a_success_with_a_bounded_list(invalid: bytes) -> None:
    count = MAX_REJECTIONS + 500
    for path in ("/v1/batch", "/v1/import", "/v1/b", "/beacon/v1/batch"):
        for good in ([], [message(), message(messageId="8")]):
            wire = Wire(max_body_bytes=100_000)
            answer = ask(wire, path, batch(*[invalid] * count, *good))
            told = answer.json
            assert (answer.status, told["success"], told["accepted"]) == (200, True, len(good))
            assert [each["index"] for each in told["rejected"]] == list(range(MAX_REJECTIONS))
            assert told["more"] == 500
            assert wire.rejected == {"invalid": count}
            assert len(wire.intake.taken) == len(good)


def test_many_invalid_messages_without_a_key_are_refused_before_all_are_read() -> None:
    for invalid, status in ((b"7", 401), (message(writeKey="two"), 401), (message(event=None, writeKey="one"), 200)):
        wire = Wire(keys=["one"], max_body_bytes=200_000, budget=10_000_000)
        assert ask(wire, "/v1/batch", batch(*[invalid] * (MAX_REJECTIONS + 500))).status == status


def test_more_invalid_messages_than_the_queue_has_places_are_too_many() -> None:
    wire = Wire(FakeIntake(capacity=5_000), max_body_bytes=200_000)
    assert ask(wire, "/v1/batch", batch(*[b"7"] * 60_000)).status == 413


def test_a_key_is_never_stored_nor_told() -> None:
    wire = Wire(keys=["secret"])
    assert ask(wire, "/v1/b", batch(message(writeKey="secret"), writeKey="secret")).status == 200
    assert ask(wire, "/v1/t", message(writeKey="secret", more=[1])).status == 200
    assert all(b"secret" not in bytes(each.payload) for each in wire.intake.taken)
    assert json.loads(bytes(wire.intake.taken[1].payload))["more"] == [1]
    refused = ask(wire, "/v1/t", message(writeKey="guess"))
    assert b"guess" not in refused.body
    assert b"secret" not in refused.body
    assert refused.json["code"] == "unauthorized"


def test_basic_works_on_post_events_too_but_a_key_in_the_body_does_not() -> None:
    wire = Wire(keys=["one"])
    assert ask(wire, "/events", event(), basic("one:")).status == 202
    assert ask(wire, "/events", event(writeKey="one")).status == 401


# --- whatever comes --------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200), st.sampled_from(["/v1/track", "/v1/batch"]))
def test_any_bytes_are_decoded_or_refused_in_words(body: bytes, path: str) -> None:
    with suppress(BadBody):
        assert all(each.error for each in DECODER.decode(request_to(DECODER, path), body).rejected)


WHOLE = message(timestamp="2024-05-05T10:11:12Z", sentAt="2024-05-05T10:11:13Z", properties={"a": ["\\", 1]})


@given(mutations(WHOLE))
def test_a_changed_message_gives_only_events_that_keep_the_rules(body: bytes) -> None:
    for path, sent in (("/v1/track", body), ("/v1/batch", batch(message(), body))):
        with suppress(BadBody):
            for each in DECODER.decode(request_to(DECODER, path), sent).events:
                assert_keeps_the_rules(each)


@given(mutations(batch(WHOLE, sentAt="2024-05-05T10:11:13Z", context={"a": 1}, writeKey="x")))
def test_a_changed_batch_gives_only_events_that_keep_the_rules(body: bytes) -> None:
    with suppress(BadBody):
        for each in DECODER.decode(request_to(DECODER, "/v1/batch"), body).events:
            assert_keeps_the_rules(each)


@given(
    st.text(max_size=30),
    st.text(max_size=30),
    st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
)
def test_any_texts_and_numbers_give_an_event_or_a_reason(stamp: str, sent_at: str, user: float) -> None:
    body = json.dumps({"event": "a", "userId": user, "timestamp": stamp, "sentAt": sent_at}).encode()
    with suppress(BadBody):
        decoded = DECODER.decode(request_to(DECODER, "/v1/track"), body)
        assert len(decoded.events) + len(decoded.rejected) == 1
        for each in decoded.events:
            assert_keeps_the_rules(each)
