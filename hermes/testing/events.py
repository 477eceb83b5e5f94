"""Builds events, chunks and batches for tests: plain ones, awkward ones, and a Hypothesis strategy for any.

Invariant: the HTTP edge would accept every event made here: no U+0000, no lone surrogate, payloads that are JSON
objects. Only `bad_events` makes others.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from hermes.events.event import MAX_TIMESTAMP, Batch, Chunk, Event

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

TIMESTAMP = 1_700_000_000
"""The default timestamp of an event: 2023-11-14 22:13:20 UTC."""

RECEIVED_AT = 1_700_000_001.25
"""The default time of arrival of a chunk. A binary fraction, so that no format rounds it."""


def make_event(
    id: str = "event-0",  # noqa: A002  the field's own name
    *,
    user_id: str = "user-1",
    type: str = "song_played",  # noqa: A002  the field's own name
    timestamp: int = TIMESTAMP,
    payload: bytes | str = b"{}",
) -> Event:
    """Return one event; ``payload`` is the text of a JSON object, and is not re-written.

    >>> make_event("7", payload='{"title": "Alive"}').user_id
    'user-1'
    """
    return Event(id, user_id, type, timestamp, Raw(payload.encode() if isinstance(payload, str) else payload))


def make_events(count: int, *, prefix: str = "event", payload: bytes | str = b'{"n": 1}') -> list[Event]:
    """Return ``count`` events with the ids ``prefix-0``, ``prefix-1``, … of a hundred users, a second apart.

    >>> [event.id for event in make_events(3, prefix="song")]
    ['song-0', 'song-1', 'song-2']
    """
    return [
        make_event(f"{prefix}-{n}", user_id=f"user-{n % 100}", timestamp=TIMESTAMP + n, payload=payload)
        for n in range(count)
    ]


def make_chunk(events: Iterable[Event] | int = 1, *, received_at: float = RECEIVED_AT) -> Chunk:
    """Return a chunk of these events, or of this many plain events; its size is roughly the size of their JSON text.

    >>> len(make_chunk(3)), len(make_chunk([make_event("7")]))
    (3, 1)
    """
    events = make_events(events) if isinstance(events, int) else list(events)
    return Chunk(events, received_at, sum(100 + len(bytes(event.payload)) for event in events))


def make_batch(events: Iterable[Event] | int = 1, *, chunk: int = 0, received_at: float = RECEIVED_AT) -> Batch:
    """Return a batch of these events, or of this many plain events, in chunks of ``chunk`` events (0: in one).

    Chunks arrive a second apart, the first at ``received_at``.

    >>> batch = make_batch(5, chunk=2)
    >>> [len(chunk) for chunk in batch.chunks]
    [2, 2, 1]
    """
    events = make_events(events) if isinstance(events, int) else list(events)
    # At least 1, because range refuses a step of 0 for an empty batch.
    step = chunk or max(1, len(events))
    parts = [events[start : start + step] for start in range(0, len(events), step)]
    return Batch([make_chunk(part, received_at=received_at + n) for n, part in enumerate(parts)])


# Each text has a meaning in some format that sinks write: COPY, CSV, JSON, SQL, a URL, a terminal.
_AWKWARD_TEXTS = {
    "quotes": "\"'`$$",
    "backslashes": "\\ \\\\ \\N \\. \\t \\x41 \\101 \\u0041",
    "end-of-copy": "\\.",
    "null-mark": "\\N",
    "controls": "tab\t line\n return\r bell\a escape\x1b one\x01 unit\x1f delete\x7f next\x85",
    "spaces": " \u00a0\u2003\u3000 leading and trailing ",
    "separators": "\u2028\u2029",
    "commas": ",;|:{}[]()<>&%#@!?*",
    "combining": "e\u0301 Z\u0351\u036b\u0343\u032a\u0302",
    "right-to-left": "\u202e\u05e9\u05dc\u05d5\u05dd مرحبا",
    "wide": "日本語 한국어 漢字",
    "astral": "😀👩\u200d👩\u200d👧\U0010ffff",
    "edge-of-utf8": "\x7f\x80\u07ff\u0800\ufeff\ufffe\uffff\U00010000",
    "sql": "'); DROP TABLE events; --",
    "longest": "\U0001f680" * 200,
}
# Valid JSON that a parser and a writer do not give back: white space, escapes, numbers beyond 2**53, deep nesting.
_AWKWARD_PAYLOADS = (
    b"{}",
    b"{ }",
    b'\t{\r\n\t"spread": [ 1 ,\n\t\t2 ]\r\n}\n ',
    b'{"escapes":"\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u00e9 \\ud83d\\ude00 \\u001f"}',
    '{"plain":"é 😀 \u2028 \U0010ffff \x7f"}'.encode(),
    b'{"copy":"\\\\. \\\\N \\\\t","":"empty key"}',
    b'{"numbers":[0,-0,-1,1.5,1e10,1E-7,9007199254740993,123456789012345678901234567890]}',
    b'{"nested":' + b"[" * 100 + b"]" * 100 + b"}",
    b'{"literals":[true,false,null]}',
    b'{"sql":"\'); DROP TABLE events; --","percent":"%s %d %%"}',
)


def awkward_events(*, prefix: str = "awkward") -> list[Event]:
    """Return valid events that careless sinks garble.

    They hold escapes, controls, every kind of Unicode, extreme times and unusual JSON.

    >>> len({event.id for event in awkward_events()}) > 30
    True
    """
    found = [
        # 256 characters are the longest id that the edge accepts.
        make_event(f"{prefix}-text-{name}-{text}"[:256], user_id=text, type="song_played")
        for name, text in _AWKWARD_TEXTS.items()
    ]
    found += [
        make_event(f"{prefix}-payload-{n}", type="ad_clicked", payload=payload)
        for n, payload in enumerate(_AWKWARD_PAYLOADS)
    ]
    found += [
        make_event(f"{prefix}-time-{timestamp}", timestamp=timestamp)
        # The borders of 32-bit integers, signed and unsigned, and of the year 9999.
        for timestamp in (0, 1, 2**31 - 1, 2**31, 2**32, MAX_TIMESTAMP - 1, MAX_TIMESTAMP)
    ]
    found.append(make_event(f"{prefix}-long-id-".ljust(256, "x"), type="custom.type:with-all_of_it.0"))
    return found


def big_event(size: int = 2**20, *, id: str = "big") -> Event:  # noqa: A002  the field's own name
    """Return an event whose payload has ``size`` bytes, half of them in characters that sinks have to escape.

    >>> len(bytes(big_event(1000).payload))
    1000
    """
    body = b'\\\\\\"' * ((size - 8) // 8) + b"x" * ((size - 8) // 8 * 4 + (size - 8) % 8)
    return make_event(id, payload=b'{"v": "' + body[: size - 9] + b'"}')


def event_strategy() -> SearchStrategy[Event]:
    r"""Return a Hypothesis strategy of any valid event. Needs the distribution ``hypothesis``.

    ::

        @given(event_strategy())
        def test_an_event_is_written_as_one_line(event: Event) -> None:
            assert b"\n" not in msgspec.json.encode(event.id)
    """
    # Imported here, because only this function needs hypothesis.
    from hypothesis import strategies as st

    # The edge refuses U+0000 and lone surrogates, so no sink ever gets them.
    text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=256)
    value = st.recursive(
        # Integers within 2**60: larger ones do not survive a storage that reads JSON numbers into 64 bits.
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | text,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
        max_leaves=8,
    )
    payload = st.builds(_write_json, st.dictionaries(text, value, max_size=4), st.booleans(), st.booleans())
    # A few characters of each allowed kind; more would find no more faults.
    type_name = st.text("abcXYZ019_.:-", min_size=1, max_size=64)
    return st.builds(Event, text, text, type_name, st.integers(0, MAX_TIMESTAMP), payload)


def _write_json(value: dict[str, Any], escaped: bool, spread: bool) -> Raw:
    separators = (" ,\r\n", "\t:\n ") if spread else (",", ":")
    # Both spellings of the same text, and both spacings, because sinks must keep the bytes.
    return Raw(json.dumps(value, ensure_ascii=escaped, separators=separators).encode())


def bad_events(prefix: str) -> list[Event]:
    """Return events that no client can have sent, and that a sink may refuse."""
    return [
        make_event(f"{prefix}-nul\0"),
        # Built by hand: make_event would encode the payload.
        Event(f"{prefix}-utf8", "user", "song_played", 1, Raw(b'{"not UTF-8": "\xff"}')),
        Event(f"{prefix}-surrogate\udc80", "user", "song_played", 1),
    ]
