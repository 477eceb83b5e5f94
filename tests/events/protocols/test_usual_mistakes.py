"""The mistakes of a first try, in every protocol: a name of another system, a body that was cut off, another encoding.

Each is told by its name, and the answer says what to do.
"""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
import zstandard

from hermes.base.json.missing_fields import advise
from tests.events.protocols import test_cloudevents as cloudevents
from tests.events.protocols import test_otlp as otlp
from tests.net.http.kit import Wire, event, post

OWN = {"id": "1", "user_id": "me", "type": "song_played", "timestamp": 1_700_000_000}
CLOUD = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "order.created"}
TRACK = {"type": "track", "event": "song_played", "messageId": "7", "userId": "ann"}
JSON, LINES = b"Content-Type: application/json", b"Content-Type: application/x-ndjson"

# The path, the label, a valid object, and how it lies in a body.
WAYS: dict[str, tuple[str, bytes, dict[str, Any], bytes]] = {
    "one": ("/events", JSON, OWN, b"%b"),
    "array": ("/events", JSON, OWN, b"[%b]"),
    "lines": ("/events", LINES, OWN, b"%b\n"),
    "cloudevent": ("/events", cloudevents.STRUCTURED, CLOUD, b"%b"),
    "cloudevents": ("/events", cloudevents.BATCH, CLOUD, b"[%b]"),
    "segment": ("/v1/track", JSON, TRACK, b"%b"),
    "segment batch": ("/v1/batch", JSON, TRACK, b'{"batch":[%b]}'),
}
BODIES = {
    **{way: (path, label, around % json.dumps(valid).encode()) for way, (path, label, valid, around) in WAYS.items()},
    "otlp": ("/v1/logs", otlp.JSON, otlp.request(otlp.record())),
}


def answer_of(path: str, body: bytes, *lines: bytes) -> str:
    """The words of the answer to a request of which nothing was taken."""
    wire = Wire(event_types=("*",), max_body_bytes=100_000)
    (answer,) = wire.feed(post(body, *lines, path=path.encode()))
    assert wire.intake.taken == []
    return answer.body.decode()


# --- names of other systems ------------------------------------------------------------------------------------------

MISNAMED = [
    *((way, "user_id", name) for way in ("one", "array", "lines") for name in ("userId", "user", "userID", "usr_id")),
    *(("one", "user_id", name) for name in ("User-Id", "UID", "distinct_id", "anonymousId", "customer_id", "user_ids")),
    *(("one", "type", name) for name in ("event_type", "event", "eventName", "name", "Type", "typ", "kind")),
    *(("array", "timestamp", name) for name in ("ts", "time", "Timestamp", "timestmap", "created_at", "eventTime")),
    *(("lines", "id", name) for name in ("ID", "_id", "event_id", "eventId", "uuid", "messageId")),
    *((way, "specversion", "specVersion") for way in ("cloudevent", "cloudevents")),
    *((way, "id", "eventID") for way in ("cloudevent", "cloudevents")),
    ("cloudevent", "source", "Source"),
    ("cloudevent", "type", "eventType"),
    *((way, "userId", name) for way in ("segment", "segment batch") for name in ("user_id", "userID", "distinct_id")),
    *((way, "event", name) for way in ("segment", "segment batch") for name in ("eventName", "name", "Event")),
    ("segment batch", "type", "event_type"),
]


@pytest.mark.parametrize(("way", "field", "name"), MISNAMED)
def test_a_name_that_stands_for_a_missing_field_is_told(way: str, field: str, name: str) -> None:
    path, label, valid, around = WAYS[way]
    changed = {(name if key == field else key): value for key, value in valid.items()} | {"more": {"user_id": 1}}
    told = answer_of(path, around % json.dumps(changed).encode(), label)
    assert f"did you mean `{field}` by `{name}`? Rename it" in told


def test_a_header_that_stands_for_a_missing_attribute_is_told() -> None:
    lines = [line.replace(b"ce-id", b"ce-eventid") for line in cloudevents.BINARY]
    assert "did you mean `id` by `eventid`? Rename it" in answer_of("/events", b"{}", *lines)


@pytest.mark.parametrize(
    "names",
    [[], ["payload", "ip"], ["x" * 10_000], ["user\nid"], ["ûser"], ["user_id"], [f"us{n}" for n in range(999)]],
)
def test_what_is_like_no_field_is_not_named(names: list[str]) -> None:
    assert advise(("user_id",), names) == ""
    changed = {name: 1 for name in names if name != "user_id"} | {"id": "1"}
    assert "did you mean" not in answer_of("/events", json.dumps(changed).encode(), JSON)


# --- bodies that were cut off ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", BODIES)
def test_wherever_a_body_is_cut_off_the_byte_is_told(way: str) -> None:
    path, label, body = BODIES[way]
    for size in range(1, len(body.rstrip())):
        if way != "lines" or body[:size].rstrip().endswith(b"}"):
            told = answer_of(path, body[:size], label)
            # A literal or a number that is cut is told as what it is then.
            assert f"it ends in the middle (byte {size}): was the body cut off?" in told or "(byte " in told, told
    told = answer_of(path, body[: len(body.rstrip()) - 1], label)
    assert f"it ends in the middle (byte {len(body.rstrip()) - 1}): was the body cut off?" in told


def test_a_wrong_field_does_not_hide_that_the_rest_is_missing() -> None:
    assert "it ends in the middle (byte 8)" in answer_of("/events", b'{"id":1,', JSON)
    assert "it ends in the middle (byte 8)" in answer_of("/events", b'{"id":2}\n{"id":1,', LINES)


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(event(), mtime=0)),
        ("deflate", zlib.compress(event())),
        ("zstd", zstandard.ZstdCompressor().compress(event())),
    ],
)
def test_a_coded_body_that_is_cut_off_is_told_with_the_byte(coding: str, packed: bytes) -> None:
    for size in (len(packed) // 2, len(packed) - 1):
        told = answer_of("/events", packed[:size], JSON, b"Content-Encoding: " + coding.encode())
        assert f"the body is not valid {coding}: it ends in the middle (byte {size}): was the body cut off?" in told


def test_a_protobuf_body_that_is_cut_off_is_told_with_the_byte() -> None:
    body = otlp.packed(otlp.request(otlp.record(), resource={"a": "b"}))
    for size in range(1, len(body)):
        told = answer_of("/v1/logs", body[:size], otlp.PROTOBUF)
        assert f"it ends in the middle (byte {size}): was the body cut off?" in told


def test_the_fields_of_a_form_are_told_from_json() -> None:
    assert "an array of objects; this looks like a form's fields" in answer_of("/events", b"id=1&user_id=me", JSON)
    assert "looks like" not in answer_of("/events", b"hello", JSON)


# --- other encodings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", BODIES)
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["bare", "mark"])
@pytest.mark.parametrize("large", [False, True])
def test_another_encoding_is_told_by_its_name(way: str, encoding: str, mark: str, large: bool) -> None:
    path, label, body = BODIES[way]
    sent = (mark + body.decode().rstrip() + " " * (20_000 if large else 0)).encode(encoding)
    told = answer_of(path, sent[:100_000], label)
    assert f"the body is not UTF-8, it looks like {encoding[:6].upper()}: send it as UTF-8" in told


def test_no_body_in_utf_8_is_taken_for_another_encoding() -> None:
    for body in (b"", b"{", b"{}", b"[]", b"\xef\xbb\xbf{}", b"\0", b"{\0", b"\0\0", b'"\0', b"\xff", b"7\0"):
        assert "looks like" not in answer_of("/events", body, JSON)
