"""Events as rows of COPY's text format. Pure.

    id ␁ user_id ␁ type ␁ ts ␁ received_at ␁ payload ⏎

Invariant: what the server reads is what the event holds, whatever characters that are, and a line break in the result
ends a row. The usual block is joined first, with two control characters as separators that hardly ever occur in data;
if they occur as often as they should, a few replacements over the whole block escape it. If not, each field is escaped
by itself. Called by the postgres sink.

Source: PostgreSQL documentation, COPY, "Text Format".
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from hermes import Batch, Event

COLUMNS = ("id", "user_id", "type", "ts", "received_at", "payload")
COPY_OPTIONS = r"DELIMITER E'\x01', ENCODING 'UTF8'"

_ID, _TS = COLUMNS.index("id"), COLUMNS.index("ts")
_DELIMITERS_A_ROW = len(COLUMNS) - 1
_MAX_CACHED_SECONDS = 16_384  # clients choose their timestamps, so the cache needs a bound


class _Seconds(dict[int, str]):
    """The text of a Unix second in UTC without its zone, made once while it is cached."""

    def __missing__(self, second: int) -> str:
        if len(self) >= _MAX_CACHED_SECONDS:
            self.clear()
        text = self[second] = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(second))
        return text


_seconds = _Seconds()


def arrival_texts(batch: Batch) -> list[str]:
    """``received_at`` of every event of the batch, in order, to the millisecond."""
    texts: list[str] = []
    last, text = -1, ""
    for chunk in batch.chunks:
        millisecond = int(chunk.received_at * 1000)
        if millisecond != last:
            last, text = millisecond, f"{_seconds[millisecond // 1000]}.{millisecond % 1000:03d}+00"
        texts += [text] * len(chunk.events)
    return texts


def encode_rows(events: Sequence[Event], arrivals: Sequence[str]) -> bytes:
    """The rows of these events, whose texts of arrival are ``arrivals``, as one block."""
    return _encode_at_once(events, arrivals) or _encode_by_field(events, arrivals)


def split_rows(block: bytes) -> list[bytes]:
    """The rows of a block, each with its line break."""
    return block.splitlines(keepends=True)


def key_rows(rows: Sequence[bytes]) -> bytes:
    """Of each row its id and its timestamp, as one block of rows."""
    fields = [row.split(b"\x01") for row in rows]
    return b"".join([each[_ID] + b"\x01" + each[_TS] + b"\n" for each in fields])


def _encode_at_once(events: Sequence[Event], arrivals: Sequence[str]) -> bytes:
    """The block, or nothing where a separator occurs in the data or text is no Unicode."""
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
    if len(parts) != count:
        return b""
    pieces: list[bytes] = [b"\0"] * (3 * count)
    pieces[0::3] = parts
    pieces[1::3] = [event.payload for event in events]  # buffers, joined without a copy each
    block = b"".join(pieces)
    if block.count(b"\x01") != _DELIMITERS_A_ROW * count or block.count(b"\0") != count:
        return b""
    return block.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r").replace(b"\0", b"\n")


def _encode_by_field(events: Sequence[Event], arrivals: Sequence[str]) -> bytes:
    """The same for any data. What the server cannot store (U+0000, half a surrogate pair) it gets to see and refuse."""
    rows = []
    for event, arrival in zip(events, arrivals, strict=True):
        texts = (event.id, event.user_id, event.type, f"{_seconds[event.timestamp]}+00", arrival)
        fields = [text.encode(errors="surrogatepass") for text in texts]
        rows.append(b"\x01".join(map(_escape, [*fields, bytes(event.payload)])) + b"\n")
    return b"".join(rows)


def _escape(field: bytes) -> bytes:
    return field.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r").replace(b"\x01", b"\\001")
