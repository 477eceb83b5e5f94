"""Encodes events as rows of ClickHouse's format JSONEachRow. Pure, except for the checkpoints of `encode_rows`.

Invariants: a row is a JSON object in UTF-8; a payload for a text column is a string of the client's own bytes, a
payload for a JSON column is embedded unchanged; an event with a time that the column cannot hold is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

import msgspec
import trio
from msgspec import Raw

from hermes import Batch, Event
from hermes_sinks.common.reasons import no_text
from hermes_sinks.common.slices import slice_events

# Events encoded between two checkpoints: about 1 ms of the loop.
SLICE = 1000
COLUMNS = ("id", "user_id", "type", "ts", "payload", "received_at")


class Row(msgspec.Struct, gc=False):
    """One row; both times are in UTC, ``ts`` in whole seconds and ``received_at`` in whole milliseconds."""

    # Times as RFC 3339 text in UTC: every release reads only that form alike, in columns of any time zone.

    id: str
    user_id: str
    type: str
    ts: datetime
    payload: str | Raw
    received_at: datetime


class _OutOfRange(ValueError):
    """The column cannot hold the event's timestamp."""


_encoder = msgspec.json.Encoder()


async def encode_rows(batch: Batch, *, as_json: bool, times: range) -> tuple[list[bytes], dict[int, str]]:
    """Return the row of each event, and the reasons of events without a row, by index; their row is empty.

    ``times`` has the timestamps that the column ``ts`` can hold, in Unix seconds.

    ::

        rows, refused = await encode_rows(batch, as_json=False, times=range(2**32))
        body = b"\\n".join(row for row in rows if row)
    """
    rows: list[bytes] = []
    refused: dict[int, str] = {}
    for chunk in batch.chunks:
        # Whole milliseconds, as the column holds them.
        received_at = datetime.fromtimestamp(int(chunk.received_at * 1000) / 1000, UTC)
        for start, stop in slice_events(chunk.events, SLICE):
            events = chunk.events[start:stop]
            try:
                rows += _encode(events, received_at, as_json, times)
            except (UnicodeError, _OutOfRange):
                rows += _encode_the_good(events, received_at, as_json, times, len(rows), refused)
            await trio.lowlevel.checkpoint()
    return rows, refused


def _encode(events: Sequence[Event], received_at: datetime, as_json: bool, times: range) -> list[bytes]:
    rows = []
    for event in events:
        # The column would clamp or wrap the time, without an error.
        if event.timestamp not in times:
            raise _OutOfRange
        # Also if the payload goes as it is: only this shows that the payload is text.
        text = str(event.payload, "utf-8")
        payload = event.payload if as_json else text
        ts = datetime.fromtimestamp(event.timestamp, UTC)
        rows.append(_encoder.encode(Row(event.id, event.user_id, event.type, ts, payload, received_at)))
    return rows


def _encode_the_good(
    events: Sequence[Event], received_at: datetime, as_json: bool, times: range, first: int, refused: dict[int, str]
) -> Iterator[bytes]:
    for index, event in enumerate(events, first):
        try:
            yield from _encode([event], received_at, as_json, times)
        except UnicodeError:
            # An empty row, so that the other rows keep the places of their events.
            refused[index] = no_text(event)
            yield b""
        except _OutOfRange:
            last = datetime.fromtimestamp(times.stop - 1, UTC)
            refused[index] = f"the column ts holds times up to {last:%Y-%m-%dT%H:%M:%SZ}"
            yield b""
