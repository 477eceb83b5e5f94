"""One line of JSON for each event, in its place, and none for what cannot be text."""

from __future__ import annotations

from hermes_sinks.common.each_line import encode_each
from msgspec import Raw, json

from hermes import Event
from hermes.testing import awkward_events, make_batch, make_event, make_events


async def test_every_event_has_its_line() -> None:
    events = [*awkward_events(), *make_events(2500)]
    lines, refused = await encode_each(make_batch(events, chunk=7))
    assert not refused
    assert [json.decode(line)["id"] for line in lines] == [event.id for event in events]
    assert not any(b"\n" in line for line in lines)


async def test_what_is_no_text_has_an_empty_line_and_a_reason() -> None:
    events = make_events(2100)
    events[3] = make_event("half \ud800")
    events[1500] = Event("utf8", "user", "song_played", 1, Raw(b'{"v": "\xff"}'))
    events[2050] = make_event("é")
    lines, refused = await encode_each(make_batch(events))
    assert refused.keys() == {3, 1500}
    assert [index for index, line in enumerate(lines) if not line] == [3, 1500]
    assert len(lines) == 2100


async def test_nothing_becomes_nothing() -> None:
    assert await encode_each(make_batch([])) == ([], {})
