"""Encodes events as rows of COPY's text format. Pure.

    id ␁ user_id ␁ type ␁ ts ␁ received_at ␁ payload ⏎

Invariants: the server reads exactly the event's values, for any characters; a line break in the result ends a row.

Source: PostgreSQL documentation, COPY, "Text Format".
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from hermes import Batch, Event

COLUMNS = ("id", "user_id", "type", "ts", "received_at", "payload")
# The encoding is named, because the database may have another one, or none (SQL_ASCII).
COPY_OPTIONS = r"DELIMITER E'\x01', ENCODING 'UTF8'"

_ID, _TS = COLUMNS.index("id"), COLUMNS.index("ts")
_DELIMITERS_A_ROW = len(COLUMNS) - 1
# Clients choose their timestamps, so the cache needs a bound.
_MAX_CACHED_SECONDS = 16_384


class _Seconds(dict[int, str]):
    """A cache: the text of a Unix second in UTC, without a zone."""

    def __missing__(self, second: int) -> str:
        if len(self) >= _MAX_CACHED_SECONDS:
            self.clear()
        # ISO 8601, which the server reads alike with every DateStyle; the caller adds the zone.
        text = self[second] = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))
        return text


_seconds = _Seconds()


def arrival_texts(batch: Batch) -> list[str]:
    """Return ``received_at`` of every event of the batch, in order, to the millisecond."""
    texts: list[str] = []
    last, text = -1, ""
    for chunk in batch.chunks:
        millisecond = int(chunk.received_at * 1000)
        if millisecond != last:
            last, text = millisecond, f"{_seconds[millisecond // 1000]}.{millisecond % 1000:03d}+00"
        texts += [text] * len(chunk.events)
    return texts


def encode_rows(events: Sequence[Event], arrivals: Sequence[str]) -> bytes:
    """Return the rows of these events as one block; ``arrivals`` has their texts of arrival.

    ::

        block = encode_rows(batch.events, arrival_texts(batch))
    """
    return _encode_at_once(events, arrivals) or _encode_by_field(events, arrivals)


def split_rows(block: bytes) -> list[bytes]:
    """Return the rows of a block, each with its line break.

    >>> split_rows(b"1\\n2\\n")
    [b'1\\n', b'2\\n']
    """
    # Line breaks of the data are escaped, so each one that is left ends a row.
    return block.splitlines(keepends=True)


def key_rows(rows: Sequence[bytes]) -> bytes:
    """Return the id and the timestamp of each row, as one block of rows.

    >>> key_rows([b"7\\x01ann\\x01login\\x012023-11-14 22:13:20+00\\x01\\x01{}\\n"])
    b'7\\x012023-11-14 22:13:20+00\\n'
    """
    # A delimiter within a field is escaped too.
    fields = [row.split(b"\x01") for row in rows]
    return b"".join([each[_ID] + b"\x01" + each[_TS] + b"\n" for each in fields])


def _encode_at_once(events: Sequence[Event], arrivals: Sequence[str]) -> bytes:
    """Return the block, or nothing if a separator occurs in the data or a text is invalid Unicode."""
    # A few replacements over the whole block are much faster than escaping each field. They are right only if the two
    # control characters occur nowhere but as separators, so the counts below are checked.
    seconds = _seconds
    heads = "\0".join(
        [
            f"{event.id}\x01{event.user_id}\x01{event.type}\x01{seconds[event.timestamp]}+00\x01{arrival}\x01"
            for event, arrival in zip(events, arrivals, strict=True)
        ]
    )
    try:
        parts = heads.encode().split(b"\0")
    except UnicodeEncodeError:
        return b""
    count = len(events)
    # Both counts: separators in the data may make up for each other in a single one.
    if len(parts) != count:
        return b""
    pieces: list[bytes] = [b"\0"] * (3 * count)
    pieces[0::3] = parts
    # Buffers, joined without a copy each.
    pieces[1::3] = [event.payload for event in events]
    block = b"".join(pieces)
    if block.count(b"\x01") != _DELIMITERS_A_ROW * count or block.count(b"\0") != count:
        return b""
    return block.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r").replace(b"\0", b"\n")


def _encode_by_field(events: Sequence[Event], arrivals: Sequence[str]) -> bytes:
    """Return the block for any data, each field escaped by itself."""
    # U+0000 and half a surrogate pair go to the server too, which refuses the row with its own error.
    rows = []
    for event, arrival in zip(events, arrivals, strict=True):
        texts = (event.id, event.user_id, event.type, f"{_seconds[event.timestamp]}+00", arrival)
        fields = [text.encode(errors="surrogatepass") for text in texts]
        rows.append(b"\x01".join(map(_escape, [*fields, bytes(event.payload)])) + b"\n")
    return b"".join(rows)


def _escape(field: bytes) -> bytes:
    return field.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r").replace(b"\x01", b"\\001")
