"""Events that come without an id, in every protocol: new in each request, the same under an ``Idempotency-Key``."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hermes.events.ingest.ids import MAX_KEY, RequestIds, is_key
from hermes.events.ingest.request import EventRequest
from hermes.events.protocols.otlp import OtlpLogs
from hermes.net.http.head import Head
from tests.events.protocols import test_otlp as otlp
from tests.events.protocols import test_segment as segment
from tests.net.http.kit import Wire, post

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

LINE = otlp.record()
MESSAGE = segment.message(messageId=None, timestamp="2024-05-05T10:11:12Z")
BAD = segment.message(userId=None)
EQUAL = {  # two equal events, in every way to send some that have no id
    "otlp-json": ("/v1/logs", b"application/json", otlp.request(LINE, LINE)),
    "otlp-protobuf": ("/v1/logs", b"application/x-protobuf", otlp.packed(otlp.request(LINE, LINE))),
    "otlp-no-time": ("/v1/logs", b"application/json", otlp.request(*[otlp.record(timeUnixNano=None)] * 2)),
    "segment-batch": ("/v1/batch", b"application/json", segment.batch(MESSAGE, MESSAGE)),
    "segment-context": ("/v1/batch", b"application/json", segment.batch(MESSAGE, MESSAGE, context={"a": 1})),
    "segment-one-bad": ("/v1/batch", b"application/json", segment.batch(BAD, MESSAGE, BAD, MESSAGE)),
}
OWN = b'{"user_id": "me", "type": "a", "timestamp": 1700000000}'
KEYED = {  # Hermes's own events may lack an id only in a request with a key
    "array": ("/events", b"application/json", b"[%b,%b]" % (OWN, OWN)),
    "array-one-bad": ("/events", b"application/json", b"[7,%b,%b]" % (OWN, OWN)),
    "lines": ("/events", b"application/x-ndjson", b"%b\n%b" % (OWN, OWN)),
}
EVERY_WAY = pytest.mark.parametrize("way", EQUAL)


def send(wire: Wire, way: str, key: bytes | None = None) -> int:
    path, kind, body = (EQUAL | KEYED)[way]
    lines = [b"Content-Type: " + kind] + ([] if key is None else [b"Idempotency-Key: " + key])
    (answer,) = wire.feed(post(body, *lines, path=path.encode()))
    return answer.status


@EVERY_WAY
def test_equal_events_of_different_requests_are_different_events(way: str) -> None:
    wire = Wire(event_types=("*",))
    for _ in range(30):
        assert send(wire, way) in {200, 202}
    assert len(set(wire.intake.ids)) == 60
    assert all(UUID7.fullmatch(each) for each in wire.intake.ids)


@pytest.mark.parametrize("way", EQUAL | KEYED)
def test_a_request_that_is_sent_again_under_its_key_has_the_same_ids(way: str) -> None:
    wire = Wire(event_types=("*",))
    for key in (b"a", b"a", b"b", b"a"):
        assert send(wire, way, key) in {200, 202}
    pairs = [tuple(wire.intake.ids[at : at + 2]) for at in range(0, 8, 2)]
    assert pairs[0] == pairs[1] == pairs[3] != pairs[2]
    assert len(set(wire.intake.ids)) == 4


def test_an_id_of_the_clients_own_is_kept_whatever_the_key() -> None:
    for path, body in (
        (b"/v1/batch", segment.batch(segment.message(messageId="mine"), MESSAGE)),
        (b"/events", b'[{"id":"mine",%b,%b]' % (OWN[1:], OWN)),
    ):
        wire = Wire(event_types=("*",))
        wire.feed(post(body, b"Idempotency-Key: k", path=path))
        assert wire.intake.ids[0] == "mine"
        assert wire.intake.ids[1].startswith("sha256:")


def test_an_own_event_without_an_id_is_told_of_the_key() -> None:
    (answer,) = Wire(event_types=("*",)).feed(post(OWN))
    assert answer.status == 400
    assert "`id`: give the event one, or the request an Idempotency-Key" in answer.json["rejected"][0]["error"]
    (answer,) = Wire(event_types=("*",)).feed(post(b'{"id":"",%b' % OWN[1:], b"Idempotency-Key: k"))
    assert answer.status == 400


def test_the_same_key_on_two_paths_is_two_requests() -> None:
    wire = Wire(event_types=("*",))
    send(wire, "otlp-json", b"k")
    send(wire, "segment-batch", b"k")
    assert len(set(wire.intake.ids)) == 4


@pytest.mark.parametrize("key", [b"", b" ", "ü".encode(), b"x" * (MAX_KEY + 1), b"a\tb"])
@pytest.mark.parametrize("path", [b"/events", b"/v1/batch", b"/v1/track", b"/v1/logs"])
def test_a_key_that_is_none_is_400_in_the_words_of_the_protocol(path: bytes, key: bytes) -> None:
    wire = Wire(event_types=("*",))
    (answer,) = wire.feed(post(b"{}", b"Idempotency-Key: " + key, path=path))
    assert answer.status == 400
    told = answer.json
    assert "Idempotency-Key has to be 1 to 256" in told.get("detail", told.get("message"))


def test_heads_with_a_key_do_not_fill_the_memory_of_heads() -> None:
    wire = Wire(event_types=("*",))
    for n in range(5):
        send(wire, "segment-batch", b"%d" % n)
    assert wire.lane.heads._known == {}


@given(st.integers(0, 2**48).map(lambda ms: ms / 1000), st.lists(st.integers(0, 10**7), unique=True, max_size=20))
def test_new_ids_have_the_form_of_version_7_and_ascend_with_the_place(now: float, places: list[int]) -> None:
    head = Head("POST", "/v1/logs", {})
    ids = RequestIds(EventRequest(head, OtlpLogs(["*"], 1, lambda: now).choose(head)), now)
    made = [ids(place) for place in sorted(places)]
    assert all(UUID7.fullmatch(each) for each in made)
    assert made == sorted(set(made))


@given(st.text(max_size=300))
def test_only_bounded_printable_ascii_is_a_key(value: str) -> None:
    assert is_key(value) == (1 <= len(value) <= MAX_KEY and value.isascii() and value.isprintable())
