"""Events as rows of ClickHouse's format JSONEachRow. Pure but for the checkpoints of `encode_rows`.

Invariant: a row is a JSON object in UTF-8; a payload for a column of text is in it as a string of the client's own
bytes, one for a column of JSON as it is. Called by the clickhouse sink.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import trio
from msgspec import Raw

from hermes import Batch, Event

SLICE = 1000  # events encoded between two checkpoints: about 1 ms of the loop
COLUMNS = ("id", "user_id", "type", "ts", "payload", "received_at")


class Row(msgspec.Struct, gc=False):
    """One row; ``ts`` and ``received_at`` are in Unix seconds, the latter in whole milliseconds."""

    id: str
    user_id: str
    type: str
    ts: int
    payload: str | Raw
    received_at: float


_encoder = msgspec.json.Encoder()


async def encode_rows(batch: Batch, *, as_json: bool) -> tuple[list[bytes], dict[int, str]]:
    """The row of each event, and why some have none (an empty one), by their index."""
    rows: list[bytes] = []
    refused: dict[int, str] = {}
    for chunk in batch.chunks:
        received_at = int(chunk.received_at * 1000) / 1000
        for start in range(0, len(chunk), SLICE):
            events = chunk.events[start : start + SLICE]
            try:
                rows += _encode(events, received_at, as_json)
            except UnicodeError:
                rows += _encode_the_good(events, received_at, as_json, len(rows), refused)
            await trio.lowlevel.checkpoint()
    return rows, refused


def _encode(events: Sequence[Event], received_at: float, as_json: bool) -> list[bytes]:
    rows = []
    for event in events:
        text = str(event.payload, "utf-8")  # also where it goes as it is: to see that it is text
        payload = event.payload if as_json else text
        rows.append(_encoder.encode(Row(event.id, event.user_id, event.type, event.timestamp, payload, received_at)))
    return rows


def _encode_the_good(
    events: Sequence[Event], received_at: float, as_json: bool, first: int, refused: dict[int, str]
) -> Iterator[bytes]:
    for index, event in enumerate(events, first):
        try:
            yield from _encode([event], received_at, as_json)
        except UnicodeError as error:
            refused[index] = f"no valid Unicode: {error}"
            yield b""
