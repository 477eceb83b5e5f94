"""Generated bodies: what Hermes accepts, and ids that never come twice."""

from __future__ import annotations

import gzip
import json
from itertools import islice

import msgspec
import pytest

from hermes.events.event import Event
from hermes.load.payload import DEFAULT_TYPES, Bodies

NOW = 1_700_000_000


def events_of(body: bytes) -> list[Event]:
    return [msgspec.json.decode(line, type=Event) for line in body.splitlines()]


def test_one_event_is_a_json_object_and_more_are_ndjson() -> None:
    single, many = Bodies(1), Bodies(3)
    assert isinstance(json.loads(next(single)), dict)
    assert single.content_type == "application/json"
    assert len(events_of(next(many))) == 3
    assert many.content_type == "application/x-ndjson"


def test_a_default_event_is_about_150_bytes() -> None:
    sizes = [len(body) for body in islice(Bodies(), 100)]
    assert 145 <= sum(sizes) / len(sizes) <= 155


def test_events_have_the_types_and_recent_times_they_should_have() -> None:
    events = events_of(next(Bodies(500, now=NOW)))
    assert {event.type for event in events} == set(DEFAULT_TYPES)
    assert all(NOW - 300 < event.timestamp <= NOW for event in events)
    assert len({event.timestamp // 60 for event in events}) >= 5
    assert len({event.user_id for event in events}) > 100
    assert {event.type for event in events_of(next(Bodies(9, types=("custom",))))} == {"custom"}


@pytest.mark.parametrize("events", [1, 2, 500])
def test_unique_ids_never_come_twice_across_bodies_and_generators(events: int) -> None:
    bodies = [*islice(Bodies(events), 50), *islice(Bodies(events), 50)]
    ids = [event.id for body in bodies for event in events_of(body)]
    assert len(set(ids)) == len(ids) == 100 * events


def test_unique_ids_ascend() -> None:
    ids = [event.id for body in islice(Bodies(11), 40) for event in events_of(body)]
    assert ids == sorted(ids)


@pytest.mark.parametrize("gzip_level", [None, 1])
def test_random_ids_never_come_twice_and_are_in_no_order(gzip_level: int | None) -> None:
    bodies = Bodies(50, random_ids=True, gzip_level=gzip_level, frame=lambda body: b"%06d" % len(body) + body)
    made = list(islice(bodies, 40))
    assert all(int(body[:6]) == len(body) - 6 for body in made)
    texts = [gzip.decompress(body[6:]) if gzip_level else body[6:] for body in made]
    ids = [event.id for text in texts for event in events_of(text)]
    assert len(set(ids)) == len(ids) == 2000
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in ids)
    assert ids != sorted(ids)


def test_same_id_gives_every_event_one_id() -> None:
    bodies = islice(Bodies(20, unique_ids=False), 40)
    assert len({event.id for body in bodies for event in events_of(body)}) == 1


@pytest.mark.parametrize("size", [2, 3, 7, 8, 9, 36, 1001])
def test_a_payload_is_a_json_object_of_exactly_the_asked_size(size: int) -> None:
    (event,) = events_of(next(Bodies(payload_bytes=size)))
    assert len(bytes(event.payload)) == size
    assert isinstance(json.loads(bytes(event.payload)), dict)


@pytest.mark.parametrize("unique_ids", [True, False])
def test_gzip_bodies_decompress_to_events(unique_ids: bool) -> None:
    bodies = Bodies(50, gzip_level=1, unique_ids=unique_ids)
    first, second = (gzip.decompress(body) for body in islice(bodies, 2))
    assert len(events_of(first)) == len(events_of(second)) == 50
    assert (events_of(first)[0].id != events_of(second)[0].id) is unique_ids
    assert bodies.content_encoding == "gzip"


@pytest.mark.parametrize("gzip_level", [None, 1])
def test_a_frame_sees_the_length_of_the_body_that_it_is_put_around(gzip_level: int | None) -> None:
    for framed in islice(Bodies(7, gzip_level=gzip_level, frame=lambda body: b"%d:" % len(body) + body), 40):
        length, _, body = framed.partition(b":")
        assert int(length) == len(body)


def test_large_bodies_do_not_fill_memory_with_templates() -> None:
    bodies = Bodies(1000, payload_bytes=10_000)
    assert bodies.body_bytes > 10_000_000
    assert len(next(bodies)) == len(next(bodies)), "one template only"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"events": 0}, "at least 1 event"),
        ({"payload_bytes": 1}, "at least 2 bytes"),
        ({"types": ()}, "at least one event type"),
        ({"types": ('a"b',)}, "plain ASCII"),
        ({"types": ("a\x00",)}, "plain ASCII"),
        ({"events": 100_000, "payload_bytes": 1000}, "over 64 MiB"),
    ],
)
def test_numbers_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Bodies(**arguments)  # type: ignore[arg-type]
