"""How dead letters are asked for and shown: moments, JSON, summaries."""

from __future__ import annotations

import json

import msgspec
import pytest

from hermes.dead_letters.notation import SINCE, encode_letter, encode_line, format_time, parse_since, summarize
from hermes.dead_letters.replay import Replayed
from hermes.events.letters import EVENT_LETTERS, sink_source
from tests.dead_letters.kit import ARRIVED_AT, REJECTED_AT, make_letter

NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", NOW - 7200),
        ("1h30m", NOW - 5400),
        ("100ms", NOW - 0.1),
        ("0", 0.0),
        ("0s", NOW),
        ("1699999999", 1_699_999_999.0),
        ("1699999999.25", 1_699_999_999.25),
        ("2023-11-14", 1_699_920_000.0),
        ("2023-11-14T22:13:20", NOW),
        ("2023-11-14 22:13:20Z", NOW),
        ("2023-11-15T00:13:20+02:00", NOW),
        ("0001-01-01", -62_135_596_800.0),
    ],
)
def test_a_moment_is_a_duration_back_an_iso_time_or_unix_seconds(text: str, expected: float) -> None:
    assert parse_since(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "-2h", "2 hours", "2023-13-01", "1e9", "nan", "\u0661", "9" * 400])
def test_what_is_no_moment_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="a duration back from now") as raised:
        parse_since(text, NOW)
    assert str(raised.value) == SINCE


def test_times_are_shown_in_utc() -> None:
    assert format_time(NOW + 0.9) == "2023-11-14 22:13:20Z"


def test_a_letter_as_json_has_everything_and_the_payloads_own_bytes() -> None:
    payload = '{ "n": 1.50,\r\n "é": "\\n\\u00e9 \u2028" }'.encode()
    letter = make_letter(7, reason='say "no"\n', attempts=2, payload=payload)
    text = encode_letter(letter, EVENT_LETTERS)
    assert payload in text
    assert json.loads(text) == {
        "number": 0,
        "part": "events",
        "source": "fake",
        "sink": "fake",
        "reason": 'say "no"\n',
        "attempts": 2,
        "rejected_at": REJECTED_AT,
        "received_at": ARRIVED_AT,
        "event": {
            "id": "event-7",
            "user_id": "user-1",
            "type": "song_played",
            "timestamp": 1_700_000_000,
            "payload": json.loads(payload),
        },
    }


def test_a_line_is_one_line_and_means_the_same() -> None:
    letter = make_letter(payload=b'{\r\n"a": "\\n",\n "b": [1,\n2]}')
    line = encode_line(letter, EVENT_LETTERS)
    assert len(line.splitlines()) == 1
    assert msgspec.json.decode(line) == msgspec.json.decode(encode_letter(letter, EVENT_LETTERS))


def test_a_summary_adds_up_and_keeps_each_sinks_part() -> None:
    assert summarize(
        [
            Replayed(sink_source("a"), 1, delivered=2, refused=3, stopped="why"),
            Replayed(sink_source("b"), 0, delivered=5),
        ]
    ) == {
        "delivered": 7,
        "refused": 3,
        "left": 1,
        "sinks": [
            {"part": "events", "sink": "a", "delivered": 2, "refused": 3, "left": 1, "stopped": "why"},
            {"part": "events", "sink": "b", "delivered": 5, "refused": 0, "left": 0, "stopped": None},
        ],
    }
    assert summarize([]) == {"delivered": 0, "refused": 0, "left": 0, "sinks": []}
