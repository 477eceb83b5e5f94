"""Encodes events as columns, and columns as a Parquet file in memory. Only this file and ``stores`` import pyarrow.

Columns: ``id``, ``user_id``, ``event_type``,
``ts`` and ``received_at`` (UTC, microseconds), ``payload`` (the client's own JSON text). Invariant: the same rows make
the same bytes. `encode` is slow: call `encode` on a thread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from hermes import Event
from hermes_sinks.common.reasons import no_text

# A plain string in the file, since the Arrow schema is left out. Large in memory: the texts of a batch may exceed 2
# GiB.
_TEXT = pa.large_string()
_TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        pa.field("id", _TEXT, nullable=False),
        pa.field("user_id", _TEXT, nullable=False),
        # Not "type": the folders of the layout are partitions with that name, and readers refuse to find both.
        pa.field("event_type", _TEXT, nullable=False),
        pa.field("ts", _TIME, nullable=False),
        pa.field("payload", _TEXT, nullable=False),
        pa.field("received_at", _TIME, nullable=False),
    ]
)
# Ids and payloads hardly repeat, so a dictionary of them would only take room.
_REPETITIVE = ["user_id", "event_type", "ts", "received_at"]
# Not the payload: the least and the greatest JSON text help no search.
_SEARCHED = ["id", "user_id", "event_type", "ts", "received_at"]

Rows: TypeAlias = Any
"""A `pyarrow.RecordBatch`; pyarrow carries no types."""


def make_rows(events: Sequence[Event], arrivals: Sequence[float]) -> Rows:
    """Return the rows of events that arrived at these Unix times. Raises ValueError for invalid Unicode.

    ::

        content = encode([make_rows(batch.events, batch.arrivals)], "zstd")
    """
    return pa.record_batch(
        [
            pa.array([event.id for event in events], _TEXT),
            pa.array([event.user_id for event in events], _TEXT),
            pa.array([event.type for event in events], _TEXT),
            pa.array([event.timestamp * 1_000_000 for event in events], _TIME),
            # As bytes: the cast checks that a payload is UTF-8, without a Python string for each.
            pa.array([bytes(event.payload) for event in events], pa.large_binary()).cast(_TEXT),
            pa.array([round(arrival * 1_000_000) for arrival in arrivals], _TIME),
        ],
        schema=SCHEMA,
    )


def what_is_wrong(event: Event) -> str:
    """Return the reason why an event cannot be a row; empty for a good event.

    >>> what_is_wrong(Event("1", "u", "t", 0)), what_is_wrong(Event("\\ud800", "u", "t", 0))
    ('', 'no valid Unicode in id')
    """
    try:
        for text in (event.id, event.user_id, event.type):
            text.encode()
        str(event.payload, "utf-8")
    except UnicodeError:
        return no_text(event)
    return ""


def encode(rows: Sequence[Rows], compression: str) -> memoryview:
    """Return a Parquet file of these rows."""
    output = pa.BufferOutputStream()
    pq.write_table(
        pa.Table.from_batches(rows, SCHEMA),
        output,
        compression=compression,
        use_dictionary=_REPETITIVE,
        write_statistics=_SEARCHED,
        store_schema=False,
    )
    return memoryview(output.getvalue())
