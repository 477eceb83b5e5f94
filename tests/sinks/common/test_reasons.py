"""Reasons hold nothing of the events: whatever the words of a server quote, its column's name stands there instead."""

from __future__ import annotations

import msgspec
import pytest
import trio
from hermes_sinks.common.reasons import LEFT_OUT, hide_values, no_text, without_values
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from hermes import Event
from hermes.testing import make_batch, make_event

_VALUES = st.one_of(st.text(min_size=3), st.integers(min_value=100))


@given(st.dictionaries(st.text(), st.one_of(_VALUES, st.lists(_VALUES))), st.data())
def test_no_value_of_an_event_stands_in_the_words_about_it(payload: dict[str, object], data: st.DataObject) -> None:
    event = make_event("identity", user_id="a person", payload=msgspec.json.encode(payload))
    values = [event.id, event.user_id]
    for value in payload.values():
        values += map(str, value if isinstance(value, list) else [value])
    quoted = data.draw(st.sampled_from([value for value in values if value not in "cannot take , sorry"]))
    assert without_values(f"cannot take {quoted}, sorry", event) in [
        f"cannot take <{column}>, sorry" for column in ("id", "user_id", "payload")
    ]


@pytest.mark.parametrize(
    ("words", "hidden"),
    [
        ("bad user user-1", "bad user <user_id>"),
        ("bad user user-12", "bad user user-12"),  # another word
        ('{"error": "no song s-77, position 12345.50"}', '{"error": "no song <payload>, position <payload>"}'),
        ("the song named a very long na…", "the song named <payload>"),
        ("true, null and 7 may stand anywhere", "true, null and 7 may stand anywhere"),
    ],
)
def test_values_give_way_to_the_names_of_their_columns(words: str, hidden: str) -> None:
    payload = '{"song": "s-77", "at": [12345.50, 7, true, null], "name": "a very long name"}'
    assert without_values(words, make_event(payload=payload)) == hidden


async def test_an_event_that_is_too_large_to_look_through_has_no_words() -> None:
    large = make_event("b", payload='{"v": "' + "x" * 70_000 + '"}')
    many = make_event("c", payload=msgspec.json.encode(list(range(1100))))
    batch = make_batch([make_event("a"), large, many])
    assert await hide_values({1: "no x", 2: "no x"}, batch) == {1: LEFT_OUT, 2: LEFT_OUT}


async def test_others_get_the_loop_while_the_reasons_of_large_events_are_hidden() -> None:
    batch = make_batch([make_event(str(n), payload='{"v": "' + "x" * 15_000 + '"}') for n in range(60)])
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await hide_values(dict.fromkeys(range(60), "no"), batch)
        nursery.cancel_scope.cancel()
    assert turns >= 25


@pytest.mark.parametrize(
    ("event", "column"),
    [
        (make_event("half \ud800"), "id"),
        (make_event(user_id="half \ud800"), "user_id"),
        (Event("a", "user", "song_played", 1, Raw(b'{"v": "\xff"}')), "payload"),
    ],
)
def test_text_that_is_no_unicode_is_named_by_its_column(event: Event, column: str) -> None:
    assert no_text(event) == f"no valid Unicode in {column}"
